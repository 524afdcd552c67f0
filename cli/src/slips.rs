//! What was meant by a name that is not there.

/// The most changes of a letter that make one name of another.
const MOST: usize = 2;

/// ` (did you mean NAME?)`; empty where no name that there is comes close.
pub fn hint<'a>(written: &str, there: impl IntoIterator<Item = &'a str>) -> String {
    let far = |name: &str| strsim::osa_distance(written, name);
    let near = there
        .into_iter()
        .map(|name| (far(name), name))
        .filter(|(far, name)| *far > 0 && *far <= MOST && *far < name.chars().count());
    near.min().map_or_else(String::new, |(_, name)| format!(" (did you mean {name}?)"))
}

/// Names in a sentence: the first ones, and how many more there are.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 10;
    let names: Vec<&str> = names.into_iter().collect();
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_close_is_hinted_at() {
        assert_eq!(hint("crat", ["web", "cart", "card"]), " (did you mean cart?)");
        assert_eq!(hint("cart", ["web", "cart"]), "");
        assert_eq!(hint("x", ["a", "bc"]), "");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert_eq!(listed(["a"; 12]), "a, a, a, a, a, a, a, a, a, a and 2 more");
    }
}
