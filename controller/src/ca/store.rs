//! The root on disk: made once, never overwritten.
//!
//! `root.pem` holds key and certificate together, so that there is never one without the other; `root-cert.pem`
//! holds the certificate alone, for whoever must believe it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use time::OffsetDateTime;

use super::authority::Authority;

/// Key and certificate, readable by the owner only.
pub const ROOT_FILE: &str = "root.pem";
/// The certificate alone.
pub const ROOT_CERTIFICATE_FILE: &str = "root-cert.pem";

/// Takes the root from a directory; makes one if there is none.
///
/// # Errors
/// The directory or its files cannot be read or written, others can read the key, or the files hold no root.
pub fn open(directory: &Path) -> Result<Authority> {
    fs::create_dir_all(directory)
        .with_context(|| format!("{}: cannot make the directory", directory.display()))?;
    let file = directory.join(ROOT_FILE);
    if !file.exists() {
        create(&file).with_context(|| format!("{}: cannot write the root", file.display()))?;
    }
    let authority = read(&file).with_context(|| format!("{}: no root that can be used", file.display()))?;
    let certificate = directory.join(ROOT_CERTIFICATE_FILE);
    publish(&certificate, authority.root_pem())
        .with_context(|| format!("{}: cannot write", certificate.display()))?;
    Ok(authority)
}

/// Writes a new root beside its place and puts it there whole, unless another has come first.
fn create(file: &Path) -> Result<()> {
    let (key, certificate) = Authority::generate(OffsetDateTime::now_utc())?;
    let draft = file.with_extension(format!("{}.tmp", std::process::id()));
    write(&draft, 0o600, &format!("{key}{certificate}"))?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Result<Authority> {
    let mode = fs::metadata(file)?.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "others may read the key: its mode is {mode:o}, it must be 600");
    let text = fs::read_to_string(file)?;
    let start = text.find("-----BEGIN CERTIFICATE-----").context("it has no certificate")?;
    Ok(Authority::from_pem(&text[..start], &text[start..])?)
}

fn publish(file: &Path, certificate: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|there| there == certificate) {
        return Ok(());
    }
    let draft = file.with_extension(format!("{}.tmp", std::process::id()));
    write(&draft, 0o644, certificate)?;
    Ok(fs::rename(draft, file)?)
}

fn write(file: &Path, mode: u32, text: &str) -> Result<()> {
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(file)?;
    opened.set_permissions(fs::Permissions::from_mode(mode))?;
    opened.write_all(text.as_bytes())?;
    Ok(opened.sync_all()?)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_root_is_made_once_and_kept() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("ca");
        let first = open(&path).unwrap();
        let mode = fs::metadata(path.join(ROOT_FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        fs::remove_file(path.join(ROOT_CERTIFICATE_FILE)).unwrap();
        let again = open(&path).unwrap();
        assert_eq!(first.root_pem(), again.root_pem());
        assert_eq!(fs::read_to_string(path.join(ROOT_CERTIFICATE_FILE)).unwrap(), first.root_pem());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "no drafts remain");
        create(&path.join(ROOT_FILE)).unwrap();
        assert_eq!(open(&path).unwrap().root_pem(), first.root_pem(), "who comes second takes what is there");
    }

    #[test]
    fn a_root_that_is_damaged_or_open_to_others_is_refused_and_left_alone() {
        let dir = TempDir::new().unwrap();
        open(dir.path()).unwrap();
        let file = dir.path().join(ROOT_FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = format!("{:#}", open(dir.path()).err().unwrap());
        assert!(error.contains("it must be 600"), "{error}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "damaged").unwrap();
        assert!(open(dir.path()).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "damaged");
    }
}
