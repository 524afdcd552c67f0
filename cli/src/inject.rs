//! `weft inject`: manifests with sidecars in their pods, as the webhook would put them there.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use weft_controller::inject::manifest::{Manifests, Note, What};
use weft_controller::inject::{InjectionSettings, Injector, settings};
use weft_controller::source::yaml;

use crate::output;

/// The label that selects what no Namespace of the manifests says anything of.
const SELECTED: (&str, &str) = ("weft.dev/injection", "enabled");

/// `weft inject`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft inject -f shop.yaml | kubectl apply -f -
  kubectl get deploy -n shop -o yaml | weft inject -f - | kubectl apply -f -
  kubectl get cm -n weft-system weft-injection-default -o yaml > injection.yaml
  weft inject -f shop/ --settings injection.yaml > meshed.yaml

Pods, and the templates of Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and others, come out with a \
sidecar; everything else as it was. Where the manifests hold a Namespace, its labels say whether its pods get one; pods \
of other namespaces do, unless they say no themselves. Nothing is asked of a cluster: what a cluster's injector is \
configured with can be given as --settings.

Exit code: 0, or 1 where something cannot be read or a pod cannot have a sidecar; nothing is printed then.")]
pub struct Args {
    /// A file, a directory with all below it (*.yaml, *.yml, *.json), or - for standard input
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE_OR_DIR")]
    files: Vec<PathBuf>,
    /// What is put into pods: the ConfigMap weft-injection-REVISION, or the text under its key `config`
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The revision of the injector
    #[arg(long, default_value = "default")]
    revision: String,
}

/// One document of a file.
struct Document {
    /// As it stands in the file.
    text: String,
    value: Value,
}

/// Injects, and prints the manifests.
///
/// # Errors
/// What cannot be read, and where.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut injector = Injector::new(read_settings(args.settings.as_deref())?);
    injector.revision.clone_from(&args.revision);
    let mut documents = Vec::new();
    for file in args.files.iter().map(|path| files(path)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        documents.extend(read(&file)?);
    }
    let mut manifests = Manifests {
        injector: &injector,
        namespaces: BTreeMap::new(),
        unknown: selected(&args.revision),
        default_namespace: args.namespace.clone(),
    };
    documents.iter().for_each(|document| manifests.learn(&document.value));
    let (text, notes) = inject(&manifests, documents)?;
    notes.iter().for_each(tell);
    if notes.iter().any(|note| matches!(note.what, What::Refused(_))) {
        return Ok(ExitCode::FAILURE);
    }
    output::raw(&text);
    Ok(ExitCode::SUCCESS)
}

fn selected(revision: &str) -> BTreeMap<String, String> {
    let label = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    [label(SELECTED), label(("weft.dev/rev", revision))].into()
}

/// Documents in which nothing changes stay as their author wrote them, comments and all.
fn inject(manifests: &Manifests<'_>, documents: Vec<Document>) -> Result<(String, Vec<Note>)> {
    let (mut text, mut notes) = (String::new(), Vec::new());
    for Document { text: written, mut value } in documents {
        let before = value.clone();
        notes.extend(manifests.inject(&mut value));
        text.push_str("---\n");
        match value == before {
            true => text.push_str(written.trim_start_matches('\n')),
            false => text.push_str(&serde_saphyr::to_string(&value)?),
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok((text, notes))
}

fn tell(note: &Note) {
    let object = &note.object;
    match &note.what {
        What::Injected => {}
        What::Warning(text) => output::warning(format!("{object}: {text}")),
        What::Skipped(why) => output::progress(format!("{object}: {why}")),
        What::Refused(why) => output::problem(format!("{object}: {why}")),
    }
}

fn read_settings(file: Option<&Path>) -> Result<InjectionSettings> {
    let Some(file) = file else { return Ok(InjectionSettings::default()) };
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let place = |field: &str| format!("{}: {field}", file.display());
    let documents = yaml::parse(&text).with_context(|| place("no YAML"))?;
    let map = documents.iter().find(|document| document.value["kind"] == "ConfigMap");
    let config = map.map(|map| map.value["data"][settings::KEY].as_str());
    match config {
        None => InjectionSettings::parse(&text).with_context(|| file.display().to_string()),
        Some(Some(config)) => InjectionSettings::parse(config).with_context(|| place("data.config")),
        Some(None) => {
            bail!("{}", place("data.config: missing; this is no ConfigMap weft-injection-REVISION"))
        }
    }
}

/// A file itself, or the manifests below a directory, in their order.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path == Path::new("-") || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let is_manifest =
        |path: &Path| path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    paths.retain(|path| path.is_dir() || is_manifest(path));
    Ok(paths.iter().map(|path| files(path)).collect::<Result<Vec<_>>>()?.concat())
}

fn read(file: &Path) -> Result<Vec<Document>> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text),
        false => std::fs::read_to_string(file).map(|read| {
            text = read;
            0
        }),
    };
    read.with_context(|| file.display().to_string())?;
    // All at once first: the line of an error is a line of the file.
    yaml::parse(&text).map_err(|e| anyhow::anyhow!("{}:{}: {}", file.display(), e.line, e.reason))?;
    split(&text).into_iter().filter_map(|text| document(text).transpose()).collect()
}

fn document(text: &str) -> Result<Option<Document>> {
    let parsed = yaml::parse(text)?.into_iter().next();
    Ok(parsed.map(|parsed| Document { text: text.to_owned(), value: Arc::unwrap_or_clone(parsed.value) }))
}

/// The documents of a file. A line that begins with `---` ends one wherever it stands.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#')) {
            parts.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(text: &str) -> (String, Vec<Note>) {
        let injector = Injector::new(InjectionSettings::default());
        let documents: Vec<_> = split(text).into_iter().filter_map(|t| document(t).unwrap()).collect();
        let mut manifests = Manifests {
            injector: &injector,
            namespaces: BTreeMap::new(),
            unknown: selected("default"),
            default_namespace: "default".to_owned(),
        };
        documents.iter().for_each(|d| manifests.learn(&d.value));
        inject(&manifests, documents).unwrap()
    }

    const POD: &str = "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: [{name: app}]}\n";

    #[test]
    fn what_does_not_change_stays_as_it_was_written() {
        let service = "# the shop\nkind: Service   # as it is\napiVersion: v1\n";
        let (text, notes) = injected(&format!("{service}---\n{POD}---\n---\n# nothing\n"));
        assert!(text.starts_with(&format!("---\n{service}---\n")), "{text}");
        assert_eq!(text.matches("name: weft-proxy").count(), 1, "{text}");
        assert_eq!(notes.len(), 1);
        assert_eq!(injected(&text).0, text, "twice is once");
    }

    #[test]
    fn a_namespace_that_wants_none_gets_none() {
        let namespace = "kind: Namespace\napiVersion: v1\nmetadata: {name: default, labels: {weft.dev/injection: disabled}}\n";
        let (text, notes) = injected(&format!("{namespace}---\n{POD}"));
        assert!(!text.contains("weft-proxy"));
        assert!(matches!(notes[0].what, What::Skipped(_)));
    }
}
