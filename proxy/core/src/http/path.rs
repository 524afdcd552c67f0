//! Path normalisation (RFC 3986 section 6.2.2, Istio's `meshConfig.pathNormalization`).
//!
//! It happens once, before anything looks at the path: routing, authorization and the upstream see the same bytes.
//! A path that is normal already costs one pass and no allocation.

use std::borrow::Cow;

use thiserror::Error;

use crate::model::workload::PathNormalization;

/// Why a path cannot be matched or forwarded; each is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// It neither begins with `/` nor is `*`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    #[error("the path holds a malformed percent escape")]
    Escape,
    /// `%00`.
    #[error("the path holds an escaped NUL")]
    Nul,
    /// `#`: a fragment never belongs in a request.
    #[error("the path holds a fragment")]
    Fragment,
    /// `%2f` or `%5c` where a policy reads paths.
    #[error("the path holds an escaped slash")]
    EncodedSlash,
}

/// How paths of one workload are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// The form to bring them into.
    pub mode: PathNormalization,
    /// Whether `%2f` and `%5c` are refused. Under `DecodeAndMergeSlashes` they are decoded instead.
    pub refuse_encoded_slash: bool,
}

impl PathRules {
    /// The rules for a workload with this configured mode. Where one of its policies reads paths, slashes are merged
    /// as well and escaped slashes refused, unless the mode says otherwise outright (`None`, `DecodeAndMergeSlashes`).
    pub fn new(configured: PathNormalization, policy_reads_paths: bool) -> Self {
        let mode = match configured {
            PathNormalization::Base if policy_reads_paths => PathNormalization::MergeSlashes,
            mode => mode,
        };
        let decodes = mode == PathNormalization::DecodeAndMergeSlashes;
        PathRules { mode, refuse_encoded_slash: policy_reads_paths && !decodes }
    }
}

/// The normal form of a path (without its query). Borrowed when it is normal already.
///
/// `None` as a mode leaves every byte as it is; only a fragment and, where a policy asks, an escaped slash are refused.
pub fn normalize(path: &str, rules: PathRules) -> Result<Cow<'_, str>, PathError> {
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path, rules)?;
    if rules.mode == PathNormalization::None {
        return Ok(Cow::Borrowed(path));
    }
    let dotless = remove_dot_segments(&decoded);
    let merged = if rules.mode == PathNormalization::Base { dotless } else { merge_slashes(dotless) };
    Ok(if merged == path { Cow::Borrowed(path) } else { Cow::Owned(merged) })
}

/// The path as a server that cuts path parameters reads it (`/a;x=y/..;/b` is `/b` to Tomcat and its kin): for matching
/// policies against, beside the path itself.
pub fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let cut: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect();
    Cow::Owned(remove_dot_segments(&cut.join("/")))
}

/// Whether no mode could change or refuse the path: no escape, backslash or fragment, and no slash that is followed by
/// another or by a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut slash = false;
    for byte in path {
        match byte {
            b'%' | b'\\' | b'#' => return false,
            b'/' | b'.' if slash => return false,
            _ => slash = *byte == b'/',
        }
    }
    true
}

/// Decodes the escapes that mean the same decoded: unreserved characters, and slashes where the mode says so.
fn decode(path: &str, rules: PathRules) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\', '#']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = match rest.as_bytes()[0] {
            b'#' => return Err(PathError::Fragment),
            b'\\' => {
                out.push('/');
                &rest[1..]
            }
            _ => decode_one(&mut out, rest, rules)?,
        };
    }
    out.push_str(rest);
    Ok(out)
}

/// Decodes the escape at the front of `rest`; what follows it.
fn decode_one<'a>(out: &mut String, rest: &'a str, rules: PathRules) -> Result<&'a str, PathError> {
    let escape = match escaped(rest.as_bytes()) {
        Some(byte) => byte,
        None if rules.mode == PathNormalization::None || is_wide(rest.as_bytes()) => {
            out.push('%');
            return Ok(&rest[1..]);
        }
        None => return Err(PathError::Escape),
    };
    match escape {
        b'/' | b'\\' if rules.refuse_encoded_slash => return Err(PathError::EncodedSlash),
        b'/' | b'\\' if rules.mode == PathNormalization::DecodeAndMergeSlashes => out.push('/'),
        0 if rules.mode != PathNormalization::None => return Err(PathError::Nul),
        b'-' | b'.' | b'_' | b'~' => out.push(char::from(escape)),
        _ if escape.is_ascii_alphanumeric() => out.push(char::from(escape)),
        _ => out.push_str(&rest[..3]),
    }
    Ok(&rest[3..])
}

/// The byte that `%XX` at the front stands for.
pub(super) fn escaped(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// `%uXXXX`, which no standard knows: left as it is.
fn is_wide(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', b'u' | b'U', digits @ ..]
        if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit))
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    out
}

fn merge_slashes(mut path: String) -> String {
    let mut slash = false;
    path.retain(|c| {
        let double = slash && c == '/';
        slash = c == '/';
        !double
    });
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None as AsSent};
    use proptest::prelude::*;

    fn rules(mode: PathNormalization) -> PathRules {
        PathRules { mode, refuse_encoded_slash: false }
    }

    #[track_caller]
    fn becomes(mode: PathNormalization, path: &str, expected: &str) {
        assert_eq!(normalize(path, rules(mode)).as_deref(), Ok(expected), "{mode:?} {path}");
    }

    /// Path, then its form in each mode: Base, MergeSlashes, DecodeAndMergeSlashes (empty: as the one before).
    const TABLE: &[[&str; 4]] = &[
        ["/", "/", "", ""],
        ["/app/", "/app/", "", ""],
        ["/app/../admin", "/admin", "", ""],
        ["/app//", "/app//", "/app/", ""],
        ["/app/%2f", "/app/%2f", "", "/app/"],
        ["/app%2f/", "/app%2f/", "", "/app/"],
        ["/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", ""],
        ["/app/%2E./admin", "/admin", "", ""],
        ["/app\\admin", "/app/admin", "", ""],
        ["/app/\\/\\/\\admin", "/app//////admin", "/app/admin", ""],
        ["/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "", "/app/admin/abc"],
        ["/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc", "/%5Capp%2f%5c%2F..%2fadmin%5c/abc", "", "/app/admin/abc"],
        ["/app//../admin", "/app/admin", "", ""],
        ["/app//../../admin", "/admin", "", ""],
        ["/%c0%2e%c0%2e/admin", "/%c0.%c0./admin", "", ""],
        ["/%c0%2fadmin", "/%c0%2fadmin", "", "/%c0/admin"],
        ["/a/..", "/", "", ""],
        ["/a/b/..", "/a/", "", ""],
        ["/a/b/.", "/a/b/", "", ""],
        ["/../../a", "/a", "", ""],
        ["/.", "/", "", ""],
        ["/.hidden/...", "/.hidden/...", "", ""],
        ["/%7E%2d%5f%41%7a%30", "/~-_Az0", "", ""],
        ["/\u{e9}%41", "/\u{e9}A", "", ""],
    ];

    #[test]
    fn b18_vectors_of_each_mode() {
        for [path, forms @ ..] in TABLE {
            let mut expected = "";
            for (mode, form) in [Base, MergeSlashes, DecodeAndMergeSlashes].into_iter().zip(forms) {
                expected = if form.is_empty() { expected } else { form };
                becomes(mode, path, expected);
            }
            becomes(AsSent, path, path);
        }
    }

    #[test]
    fn b18_what_no_mode_touches() {
        for path in [
            "/0x2e0x2e/admin",
            "/0x2f0x2fadmin",
            "/%25c0%25ae%25c1%259cadmin",
            "/%252e%252e%252fadmin",
            "/%c1%9cadmin",
            "/%c0%ae%c0%ae/admin",
            "/%c0%afadmin",
            "/..../admin",
            "/..;/admin",
            "/;/admin",
            "/admin;a=b/xyz",
            "/admin,a=b/xyz",
        ] {
            for mode in [AsSent, Base, MergeSlashes, DecodeAndMergeSlashes] {
                becomes(mode, path, path);
            }
        }
    }

    #[test]
    fn b18_every_escape() {
        for byte in 1..=255_u8 {
            let path = format!("/admin%{byte:02x}");
            let kept = match byte {
                b'/' | b'\\' => "/admin/".to_owned(),
                b'-' | b'.' | b'_' | b'~' => format!("/admin{}", char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => format!("/admin{}", char::from(byte)),
                _ => path.clone(),
            };
            becomes(DecodeAndMergeSlashes, &path, &kept);
        }
    }

    #[test]
    fn b7_dot_segments_are_gone_however_written() {
        for path in
            ["/a/../admin", "/a/%2e%2e/admin", "/a/.%2e/admin", "/a/%2E./admin", "/a\\..\\admin", "/./admin"]
        {
            becomes(Base, path, "/admin");
        }
    }

    #[test]
    fn b8_slashes_merge_where_a_policy_reads_paths() {
        let rules = PathRules::new(Base, true);
        assert_eq!(normalize("//admin", rules).as_deref(), Ok("/admin"));
        assert_eq!(normalize("/./admin", rules).as_deref(), Ok("/admin"));
        assert_eq!(normalize("//admin", PathRules::new(Base, false)).as_deref(), Ok("//admin"));
    }

    #[test]
    fn b9_escaped_slashes_are_refused_where_a_policy_reads_paths() {
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a%5C"] {
            assert_eq!(normalize(path, PathRules::new(Base, true)), Err(PathError::EncodedSlash));
            assert_eq!(normalize(path, PathRules::new(AsSent, true)), Err(PathError::EncodedSlash));
            assert_eq!(normalize(path, PathRules::new(Base, false)).as_deref(), Ok(path));
        }
        let decodes = PathRules::new(DecodeAndMergeSlashes, true);
        assert_eq!(normalize("/a%2f%5Cb", decodes).as_deref(), Ok("/a/b"));
        assert_eq!(normalize("/a\\b", PathRules::new(Base, true)).as_deref(), Ok("/a/b"));
    }

    #[test]
    fn b10_escapes_that_are_none() {
        assert_eq!(normalize("/a%00", rules(Base)), Err(PathError::Nul));
        for path in ["/%zz", "/%", "/%2", "/%2%35", "/%u00", "/%u00zz", "/%\u{e9}\u{e9}"] {
            assert_eq!(normalize(path, rules(Base)), Err(PathError::Escape), "{path}");
            becomes(AsSent, path, path);
        }
        becomes(Base, "/%c0%ae%c0%ae/x", "/%c0%ae%c0%ae/x");
        becomes(DecodeAndMergeSlashes, "/%u002e%u002e/x", "/%u002e%u002e/x");
    }

    #[test]
    fn b11_the_path_without_parameters() {
        for (path, plain) in [
            ("/admin;jsessionid=1", "/admin"),
            ("/admin;x=y/z;w", "/admin/z"),
            ("/a/..;/admin", "/admin"),
            ("/admin", "/admin"),
            ("/;/admin", "//admin"),
        ] {
            assert_eq!(without_parameters(path), plain);
        }
    }

    #[test]
    fn b12_a_fragment() {
        for mode in [AsSent, Base] {
            assert_eq!(normalize("/a#b", rules(mode)), Err(PathError::Fragment));
        }
    }

    #[test]
    fn b13_one_decode_only() {
        becomes(DecodeAndMergeSlashes, "/%252e%252e/%252f", "/%252e%252e/%252f");
    }

    #[test]
    fn b14_case_stays() {
        becomes(Base, "/ADMIN%41", "/ADMINA");
    }

    #[test]
    fn b15_the_asterisk_passes_and_a_relative_path_does_not() {
        becomes(Base, "*", "*");
        assert_eq!(normalize("admin", rules(AsSent)), Err(PathError::NotAbsolute));
        assert_eq!(normalize("", rules(Base)), Err(PathError::NotAbsolute));
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in ["/", "/reviews/0", "/a.b/c..d/e%20f", "/.well-known"] {
            assert!(matches!(normalize(path, rules(MergeSlashes)), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(path in "/([a./\\\\;%]|%2e|%2F|%5c|%41|%25|\u{e9}){0,12}", refuse: bool) {
            for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
                let rules = PathRules { mode, refuse_encoded_slash: refuse };
                if let Ok(once) = normalize(&path, rules) {
                    let twice = normalize(&once, rules);
                    prop_assert_eq!(twice.as_deref(), Ok(&*once));
                    prop_assert!(once.starts_with('/') && !once.contains("/../") && !once.ends_with("/.."));
                }
            }
        }
    }
}
