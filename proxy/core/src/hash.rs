//! Maps for the request path.

/// A map with a fast, seeded hash.
pub type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// A set with a fast, seeded hash.
pub type Set<T> = hashbrown::HashSet<T, foldhash::fast::RandomState>;

/// A number that is the same for the same texts everywhere: for starting points that should differ between clients.
pub fn stable(parts: &[&str]) -> u64 {
    parts.iter().fold(0, |seed, part| xxhash_rust::xxh64::xxh64(part.as_bytes(), seed))
}
