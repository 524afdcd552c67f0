//! What becomes of the path (`rewrite.uri`, `rewrite.uriRegexRewrite`).

use std::borrow::Cow;

use crate::matching::StringMatch;
use crate::model::route::{HttpMatch, PathRewrite};

/// The new path, without the query. `by` is the block of conditions that held.
///
/// A prefix that matched is replaced, as it was written and no further (`/foo` to `/` makes `//x` of `/foo/x`); after
/// an exact match or an expression the whole path is; without a condition on the path its first `/` is. The result
/// always begins with `/`. `*`, the target of OPTIONS, stays.
pub fn rewrite_path<'p>(rewrite: &PathRewrite, by: Option<&HttpMatch>, path: &'p str) -> Cow<'p, str> {
    if !path.starts_with('/') {
        return Cow::Borrowed(path);
    }
    let new = match rewrite {
        PathRewrite::Uri(text) => Cow::Owned(replace_matched(text, by, path)),
        PathRewrite::Regex(substitution) => substitution.apply(path),
    };
    if new.starts_with('/') { new } else { Cow::Owned(format!("/{new}")) }
}

/// The path with what matched replaced.
pub(super) fn replace_matched(text: &str, by: Option<&HttpMatch>, path: &str) -> String {
    let matched = match by.and_then(|block| block.uri.as_ref()) {
        Some(StringMatch::Prefix(prefix)) => prefix.len(),
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => path.len(),
        Some(StringMatch::Present) | None => 1,
    };
    let rest = path.get(matched..).unwrap_or("");
    let mut new = String::with_capacity(text.len() + rest.len());
    new.push_str(text);
    new.push_str(rest);
    new
}
