//! `kubectl` in tests: against one cluster, with errors that say what was run.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Pause between two looks at a cluster.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs `kubectl`, and other programs, against one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    /// Folders where programs are looked for first.
    programs: Option<PathBuf>,
    namespace: Option<String>,
}

impl Kubectl {
    /// For the cluster of this kubeconfig; `programs` is a folder with `kubectl` and `helm`, else those of PATH are run.
    pub fn new(kubeconfig: impl Into<PathBuf>, programs: Option<PathBuf>) -> Self {
        Self { kubeconfig: kubeconfig.into(), programs, namespace: None }
    }

    /// The same, in a namespace.
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// The namespace that it works in.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// Where the cluster is told.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A program that reads KUBECONFIG, such as `helm`.
    pub fn program(&self, name: &str) -> Command {
        let own = self.programs.as_ref().map(|folder| folder.join(name)).filter(|file| file.exists());
        let mut command = Command::new(own.unwrap_or_else(|| PathBuf::from(name)));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// `kubectl` with these arguments, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.program("kubectl");
        command.args(self.namespace.iter().flat_map(|n| ["--namespace", n.as_str()])).args(arguments);
        command
    }

    /// What `kubectl` printed on standard output.
    ///
    /// # Errors
    /// It did not succeed: what was run, and what it said.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let mut command = self.command(arguments);
        let output = command.output().with_context(|| format!("{command:?}"))?;
        succeeded(&command, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl apply` of these manifests: all that it said, warnings too.
    ///
    /// # Errors
    /// One was refused: all that it said.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.pipe(&["apply", "--filename", "-"], manifests)
    }

    /// `kubectl` with these arguments and this standard input: all that it said.
    ///
    /// # Errors
    /// It did not succeed: what was run, and what it said.
    pub fn pipe(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        succeeded(&command, &output)?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    /// An object or a list, as JSON.
    ///
    /// # Errors
    /// There is no such object, or `kubectl` failed.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "--output", "json"];
        all.extend(arguments);
        Ok(serde_json::from_str(&self.run(&all)?)?)
    }

    /// Asks until the answer is one, or time is up.
    ///
    /// # Errors
    /// Never within `limit`: what was waited for, and the last error.
    pub fn until<T>(&self, what: &str, limit: Duration, ask: impl Fn(&Self) -> Result<T>) -> Result<T> {
        let began = Instant::now();
        loop {
            match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(e) if began.elapsed() > limit => return Err(e.context(format!("never {what}"))),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// An error that says what was run and what came of it, if it was no success.
///
/// # Errors
/// The program did not succeed.
pub fn succeeded(command: &Command, output: &Output) -> Result<()> {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, said.concat().trim());
    }
    Ok(())
}

/// The string at a JSON pointer of an object.
///
/// # Errors
/// Nothing is there, or no string.
pub fn text<'a>(object: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = object.pointer(pointer).and_then(Value::as_str);
    ensure!(found.is_some(), "no {pointer} in {object}");
    Ok(found.unwrap_or_default())
}
