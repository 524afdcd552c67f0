//! Of which mesh something is asked: of one that runs, or of manifests that none runs of. What the commands that ask
//! either have in common.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::offline::Offline;
use crate::output::{self, Format};
use crate::reach::Place;

/// The exit code where nothing can be told.
const UNKNOWN: u8 = 2;

/// Of which mesh, and how to print what it says.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// Which mesh that runs
    #[command(flatten)]
    pub place: Place,
    /// Ask nobody: a file or directory of manifests; several are taken together
    #[arg(short, long = "file", value_name = "FILE_OR_DIR", conflicts_with_all = ["mesh", "context"])]
    pub files: Vec<PathBuf>,
    /// How
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

impl Source {
    /// The mesh of the manifests, what is wrong with which is told; `None`: one that runs is meant.
    ///
    /// # Errors
    /// A file that cannot be read, with its line.
    pub fn offline(&self) -> Result<Option<Offline>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let mesh = Offline::read(&self.files)?;
        mesh.errors().for_each(output::warning);
        Ok(Some(mesh))
    }

    /// The namespace of names in manifests.
    pub fn namespace(&self) -> &str {
        self.place.namespace.as_deref().unwrap_or("default")
    }
}

/// The exit code of an answer; says why there is none.
pub fn answered(answer: Result<ExitCode>) -> ExitCode {
    answer.unwrap_or_else(|error| {
        output::problem(format!("{error:#}"));
        ExitCode::from(UNKNOWN)
    })
}
