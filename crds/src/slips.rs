//! What was meant by a name that is not known.

/// The most changes of a letter that make one name of another.
const MOST: usize = 2;

/// The name among those that are known that comes closest, if one comes close.
pub fn near<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = |name: &str| strsim::osa_distance(written, name);
    let all = known.into_iter().map(|name| (far(name), name));
    let close = all.filter(|(far, name)| (1..=MOST).contains(far) && *far < name.chars().count());
    close.min().map(|(_, name)| name)
}

/// ` (did you mean NAME?)`; empty where no name that is known comes close.
pub fn hint<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    near(written, known).map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
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
}
