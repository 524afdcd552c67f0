//! URI templates of `paths`: `{*}` is one segment that is not empty, `{**}` one or more that may be.

use std::iter::zip;

use crate::model::policy::TemplateSegment;

/// Whether a path, without its query, fits a template.
pub(super) fn matches(template: &[TemplateSegment], path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return false };
    let segments = path.split('/');
    let count = segments.clone().count();
    match template.iter().position(|segment| *segment == TemplateSegment::Rest) {
        None => count == template.len() && zip(template, segments).all(|(t, s)| fits(t, s)),
        Some(rest) => {
            let (before, after) = (&template[..rest], &template[rest + 1..]);
            count > before.len() + after.len()
                && zip(before, segments.clone()).all(|(t, s)| fits(t, s))
                && zip(after.iter().rev(), segments.rev()).all(|(t, s)| fits(t, s))
        }
    }
}

fn fits(template: &TemplateSegment, segment: &str) -> bool {
    match template {
        TemplateSegment::Literal(text) => **text == *segment,
        TemplateSegment::One => !segment.is_empty(),
        TemplateSegment::Rest => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Vec<TemplateSegment> {
        let segment = |s: &str| match s {
            "{*}" => TemplateSegment::One,
            "{**}" => TemplateSegment::Rest,
            literal => TemplateSegment::Literal(literal.into()),
        };
        text[1..].split('/').map(segment).collect()
    }

    #[test]
    fn k12_templates() {
        let cases = [
            ("/a/{*}", "/a/b", true),
            ("/a/{*}", "/a/", false),
            ("/a/{*}", "/a", false),
            ("/a/{*}", "/a/b/c", false),
            ("/{*}/b", "/a/b", true),
            ("/allow/admin/{**}", "/allow/admin", false),
            ("/allow/admin/{**}", "/allow/admin/", true),
            ("/allow/admin/{**}", "/allow/admin/a/b", true),
            ("/store/{**}/cart", "/store//cart", true),
            ("/store/{**}/cart", "/store/cart", false),
            ("/store/{**}/cart", "/store/a/b/cart", true),
            ("/store/{**}/cart", "/store/a/b/cart/", false),
            ("/{*}/x/{**}/y/z", "/q/x/1/y/z", true),
            ("/{*}/x/{**}/y/z", "/q/x/y/z", false),
            ("/{**}", "/", true),
            ("/{**}", "/a", true),
            ("/{**}", "*", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(&template(pattern), path), expected, "{pattern} {path}");
        }
    }
}
