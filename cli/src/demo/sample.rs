//! The built-in sample as files, and the edits that the tour makes to them.

use std::io;
use std::path::{Path, PathBuf};

/// The sample as people write it for Istio, byte for byte.
pub const CONTENT_SERVICE: &str = include_str!("../../../samples/content-service.yaml");
/// The file that holds it.
pub const FILE: &str = "content-service.yaml";
/// The file that asks for mTLS everywhere.
pub const STRICT_FILE: &str = "strict.yaml";
/// Every other file.
const OTHERS: [(&str, &str); 3] = [
    ("mesh.yaml", include_str!("manifests/mesh.yaml")),
    ("callers.yaml", include_str!("manifests/callers.yaml")),
    ("content.yaml", include_str!("manifests/content.yaml")),
];
/// Nothing but mTLS.
pub const STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
spec:
  mtls:
    mode: STRICT
";

/// The directory of the sample.
#[derive(Clone, Debug)]
pub struct Sample {
    dir: PathBuf,
}

/// A mistake, and what must be said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, in words.
    pub what: &'static str,
    right: &'static str,
    wrong: &'static str,
    /// How the field's path begins.
    pub field: &'static str,
}

/// The mistakes of the tour, each of which can be made in the same file.
pub const MISTAKES: [Mistake; 3] = [
    Mistake {
        what: "a bad duration",
        right: "interval: 30s",
        wrong: "interval: 30 bananas",
        field: "spec.trafficPolicy.outlierDetection.interval",
    },
    Mistake {
        what: "an unknown field",
        right: "simple: LEAST_CONN",
        wrong: "simpel: LEAST_CONN",
        field: "spec.trafficPolicy.loadBalancer",
    },
    Mistake {
        what: "weights of nothing",
        right: "weight: 50",
        wrong: "weight: 0",
        field: "spec.http[1].route",
    },
];

impl Sample {
    /// Writes the sample into a directory.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(dir: &Path) -> io::Result<Self> {
        let sample = Self { dir: dir.to_owned() };
        for (name, text) in OTHERS.into_iter().chain([(FILE, CONTENT_SERVICE)]) {
            sample.save(name, text)?;
        }
        Ok(sample)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Saves a file as editors do: nobody ever sees half of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.dir.join(format!(".{name}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(new, self.dir.join(name))
    }
}

/// The sample with another split between v1 and v2.
pub fn split(v1: u32, v2: u32) -> String {
    let text = CONTENT_SERVICE.replace("weight: 80", &format!("weight: {v1}"));
    text.replace("weight: 20", &format!("weight: {v2}"))
}

impl Mistake {
    /// The text with this mistake.
    pub fn made_in(&self, text: &str) -> String {
        text.replace(self.right, self.wrong)
    }

    /// The lines, from 1, on which the mistake stands in the text.
    pub fn lines(&self, text: &str) -> Vec<u32> {
        let wrong = |(_, line): &(u32, &str)| line.trim() == self.wrong;
        (1..).zip(text.lines()).filter(wrong).map(|(number, _)| number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_changes_the_sample() {
        let even = split(50, 50);
        assert_eq!(even.matches("weight: 50").count(), 2);
        for mistake in MISTAKES {
            let wrong = mistake.made_in(&even);
            assert!(!mistake.lines(&wrong).is_empty() && mistake.lines(&even).is_empty(), "{}", mistake.what);
        }
    }
}
