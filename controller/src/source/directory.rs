//! A directory of manifests as a set of objects: the pure half, which turns files into events.
//!
//! A file that cannot be read keeps the objects that it last had: half a save is no deletion.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use super::object::{Event, Object, ObjectId, Problem};
use super::yaml;

/// The text of each manifest file of a directory, or why it could not be read.
pub type Files = BTreeMap<Arc<Path>, Result<Arc<str>, String>>;

/// What the directory's files last said.
#[derive(Default)]
pub struct Directory {
    files: BTreeMap<Arc<Path>, File>,
    current: BTreeMap<ObjectId, Object>,
}

struct File {
    /// What was read; `None` where nothing could be, so that whatever comes next is read anew.
    text: Option<Arc<str>>,
    /// How many objects there are in each piece of the text.
    counts: Vec<usize>,
    objects: Vec<Object>,
    problem: Option<Problem>,
}

/// What changed, and what is wrong with the files as they are now.
#[derive(Debug, Default)]
pub struct Changes {
    /// In the order of names; never a `Reset` unless it is the first.
    pub events: Vec<Event>,
    /// Objects that are as they were, at another place of their file or in another file.
    pub moved: Vec<Object>,
    /// All that is wrong now, old and new.
    pub problems: Vec<Problem>,
    /// The source's own version of what it says; 0 where it has none.
    pub version: u64,
}

impl Directory {
    /// Takes the files as they are now.
    pub fn update(&mut self, files: Files) -> Changes {
        self.files.retain(|path, _| files.contains_key(path));
        for (path, text) in files {
            self.read(path, text);
        }
        let mut problems: Vec<_> = self.files.values().filter_map(|file| file.problem.clone()).collect();
        let wanted = self.merge(&mut problems);
        let (events, moved) = (differences(&self.current, &wanted), moved(&self.current, &wanted));
        self.current = wanted;
        Changes { events, moved, problems, version: 0 }
    }

    /// The object of a name.
    pub fn object(&self, id: &ObjectId) -> Option<&Object> {
        self.current.get(id)
    }

    /// Every object there is.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.current.values()
    }

    fn read(&mut self, path: Arc<Path>, text: Result<Arc<str>, String>) {
        let old = self.files.remove(&path);
        let file = match (text, old) {
            (Ok(text), Some(old)) if old.text.as_ref() == Some(&text) => old,
            (Ok(text), old) => File::read(&path, text, old),
            (Err(reason), old) => {
                let problem = Problem { path: path.clone(), line: 0, reason, effect: kept(&old) };
                File {
                    text: None,
                    counts: Vec::new(),
                    objects: old.map(|old| old.objects).unwrap_or_default(),
                    problem: Some(problem),
                }
            }
        };
        self.files.insert(path, file);
    }

    /// One object a name: the first file's, by path.
    fn merge(&self, problems: &mut Vec<Problem>) -> BTreeMap<ObjectId, Object> {
        let mut all: BTreeMap<ObjectId, Object> = BTreeMap::new();
        for object in self.files.values().flat_map(|file| &file.objects) {
            match all.entry(object.id.clone()) {
                Entry::Vacant(place) => {
                    place.insert(object.clone());
                }
                Entry::Occupied(first) => problems.push(twice(object, first.get())),
            }
        }
        all
    }
}

impl File {
    /// Reads a file's text. Of one that was read before only what changed, from the first to the last piece that did.
    fn read(path: &Arc<Path>, text: Arc<str>, old: Option<Self>) -> Self {
        let pieces = yaml::pieces(&text);
        let same = old.as_ref().map_or(Same::default(), |old| old.same(&pieces));
        let changed = &pieces[same.first..pieces.len() - same.last];
        match parsed(path, changed, lines(&pieces[..same.first])) {
            Ok(new) => {
                let (objects, counts) = match &old {
                    Some(old) => old.around(&same, new, lines(&pieces[..pieces.len() - same.last])),
                    None => new,
                };
                Self { text: Some(text), counts, objects, problem: None }
            }
            Err(mut problem) => {
                problem.effect = kept(&old);
                let objects = old.map(|old| old.objects).unwrap_or_default();
                Self { text: Some(text), counts: Vec::new(), objects, problem: Some(problem) }
            }
        }
    }

    /// How many pieces are as they were, if this is what they were.
    fn same(&self, new: &[&str]) -> Same {
        let text =
            self.text.as_deref().filter(|_| self.problem.is_none() && new.len() < yaml::DOCUMENT_LIMIT);
        let old = text.map(yaml::pieces).filter(|old| old.len() == self.counts.len());
        let Some(old) = old else { return Same::default() };
        let most = old.len().min(new.len());
        let first = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let last =
            old.iter().rev().zip(new.iter().rev()).take(most - first).take_while(|(a, b)| a == b).count();
        Same { first, last, line: lines(&old[..old.len() - last]) }
    }

    /// The objects before and after those that were read anew; the latter may stand on other lines now.
    fn around(&self, same: &Same, new: (Vec<Object>, Vec<usize>), line: i32) -> (Vec<Object>, Vec<usize>) {
        let last = self.counts.len() - same.last;
        let before: usize = self.counts[..same.first].iter().sum();
        let after: usize = self.counts[last..].iter().sum();
        let mut rest = self.objects[self.objects.len() - after..].to_vec();
        rest.iter_mut().for_each(|object| object.place.moved(line - same.line));
        let objects = [self.objects[..before].to_vec(), new.0, rest].concat();
        (objects, [&self.counts[..same.first], &new.1, &self.counts[last..]].concat())
    }
}

/// Pieces of a file that are as they were.
#[derive(Clone, Copy, Debug, Default)]
struct Same {
    /// So many at its beginning.
    first: usize,
    /// So many at its end.
    last: usize,
    /// How many lines stood before those at its end.
    line: i32,
}

fn lines(pieces: &[&str]) -> i32 {
    let newlines = |piece: &&str| piece.bytes().filter(|byte| *byte == b'\n').count();
    i32::try_from(pieces.iter().map(newlines).sum::<usize>()).unwrap_or(i32::MAX)
}

/// The objects of some pieces in a row, and how many there are in each; `line` lines stand before them.
fn parsed(path: &Arc<Path>, pieces: &[&str], line: i32) -> Result<(Vec<Object>, Vec<usize>), Problem> {
    let documents = yaml::parse(&pieces.concat()).map_err(|e| {
        let line = if e.line == 0 { 0 } else { e.line.saturating_add_signed(line) };
        Problem { path: path.clone(), line, reason: e.reason, effect: "" }
    })?;
    let ends = pieces.iter().scan(0, |sum, piece| {
        *sum += lines(&[*piece]);
        Some(*sum)
    });
    let ends: Vec<i32> = ends.collect();
    let (mut objects, mut counts) = (Vec::new(), vec![0; pieces.len()]);
    for mut document in documents {
        let at = i32::try_from(document.line_of("")).unwrap_or(i32::MAX);
        let piece = ends.partition_point(|end| *end < at).min(pieces.len().saturating_sub(1));
        document.moved(line);
        let of = Object::of_document(path, document)?;
        counts[piece] += of.len();
        objects.extend(of);
    }
    Ok((objects, counts))
}

fn kept(old: &Option<File>) -> &'static str {
    match old {
        Some(old) if !old.objects.is_empty() => "what the file said before stays in force",
        _ => "nothing of the file is in force",
    }
}

fn twice(object: &Object, first: &Object) -> Problem {
    let (path, line) = object.place.locate("metadata.name").unwrap_or((Path::new("").into(), 0));
    let at =
        first.place.locate("metadata.name").map(|(p, l)| format!("{}:{l}", p.display())).unwrap_or_default();
    let reason = format!("{} is written twice; the one at {at} is in force", object.id);
    Problem { path, line, reason, effect: "" }
}

fn differences(old: &BTreeMap<ObjectId, Object>, new: &BTreeMap<ObjectId, Object>) -> Vec<Event> {
    let gone = old.keys().filter(|id| !new.contains_key(*id)).map(|id| Event::Delete(id.clone()));
    let changed = new.iter().filter(|(id, object)| old.get(*id).is_none_or(|o| o.value != object.value));
    gone.chain(changed.map(|(_, object)| Event::Apply(object.clone()))).collect()
}

fn moved(old: &BTreeMap<ObjectId, Object>, new: &BTreeMap<ObjectId, Object>) -> Vec<Object> {
    let stayed = |object: &&Object| {
        let before = old.get(&object.id).filter(|o| o.value == object.value);
        before.is_none_or(|o| o.place.same_lines(&object.place))
    };
    new.values().filter(|object| !stayed(object)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(path, text)| (Path::new(path).into(), Ok((*text).into()))).collect()
    }

    fn service(name: &str, port: u16) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports: [{{port: {port}}}]\n"
        )
    }

    fn shown(events: &[Event]) -> Vec<String> {
        let one = |event: &Event| match event {
            Event::Apply(object) => format!("+{}", object.id),
            Event::Delete(id) => format!("-{id}"),
            other => format!("{other:?}"),
        };
        events.iter().map(one).collect()
    }

    #[test]
    fn a_save_is_an_event_for_what_changed_only() {
        let mut directory = Directory::default();
        let both = format!("{}---\n{}", service("a", 1), service("b", 1));
        assert_eq!(shown(&directory.update(files(&[("x.yaml", &both)])).events).len(), 2);
        let both = format!("{}---\n{}", service("a", 1), service("b", 2));
        assert_eq!(shown(&directory.update(files(&[("x.yaml", &both)])).events), ["+Service default/b"]);
        assert_eq!(
            shown(&directory.update(files(&[("x.yaml", &service("a", 1))])).events),
            ["-Service default/b"]
        );
        assert!(directory.update(files(&[("x.yaml", &service("a", 1))])).events.is_empty());
    }

    #[test]
    fn a_half_written_file_keeps_its_objects() {
        let mut directory = Directory::default();
        directory.update(files(&[("x.yaml", &service("a", 1))]));
        let broken = "apiVersion: v1\nkind: Service\nmetadata: {name: a, name: b}\n";
        let changes = directory.update(files(&[("x.yaml", broken)]));
        assert!(changes.events.is_empty());
        assert_eq!(changes.problems[0].line, 3);
        assert!(changes.problems[0].effect.contains("stays in force"), "{}", changes.problems[0]);
        let changes = directory.update(files(&[("x.yaml", &service("a", 2))]));
        assert_eq!((changes.events.len(), changes.problems.len()), (1, 0));
    }

    #[test]
    fn a_file_that_can_be_read_again_is_no_problem_any_more() {
        let mut directory = Directory::default();
        let text = service("a", 1);
        directory.update(files(&[("x.yaml", &text)]));
        let closed: Files = [(Path::new("x.yaml").into(), Err("no rights".to_owned()))].into();
        let changes = directory.update(closed);
        assert_eq!((changes.events.len(), changes.problems.len()), (0, 1));
        let changes = directory.update(files(&[("x.yaml", &text)]));
        assert_eq!((changes.events.len(), changes.problems.len()), (0, 0));
    }

    #[test]
    fn an_object_that_moves_is_no_event() {
        let mut directory = Directory::default();
        directory.update(files(&[("x.yaml", &service("a", 1))]));
        let changes = directory.update(files(&[("x.yaml", &format!("# a word\n{}", service("a", 1)))]));
        assert!(changes.events.is_empty());
        assert_eq!(changes.moved[0].place.locate("metadata.name").unwrap().1, 5);
    }

    #[test]
    fn what_is_read_again_in_part_is_as_if_it_were_read_whole() {
        let text = |list: &[(&str, u16)]| -> String {
            list.iter().map(|(name, port)| format!("---\n# {name}\n{}", service(name, *port))).collect()
        };
        let steps: [&[(&str, u16)]; 7] = [
            &[("a", 1), ("b", 1), ("c", 1)],
            &[("a", 1), ("b", 2), ("c", 1)],
            &[("a", 1), ("x", 1), ("b", 2), ("c", 1)],
            &[("a", 1), ("c", 1)],
            &[],
            &[("c", 1), ("c2", 1), ("a", 7)],
            &[("c", 1), ("a", 7), ("a2", 7)],
        ];
        let mut directory = Directory::default();
        for step in steps {
            let changed = directory.update(files(&[("x.yaml", &text(step))]));
            assert!(changed.problems.is_empty());
            let mut whole = Directory::default();
            whole.update(files(&[("x.yaml", &text(step))]));
            let told = |directory: &Directory| -> Vec<_> {
                let line = |o: &Object, field| o.place.locate(field).map(|(_, line)| line);
                let all = directory.objects();
                all.map(|o| (o.id.clone(), o.value.clone(), line(o, "kind"), line(o, "spec.ports[0].port")))
                    .collect()
            };
            assert_eq!(told(&directory), told(&whole), "{step:?}");
        }
    }

    #[test]
    fn an_object_written_twice_is_named() {
        let mut directory = Directory::default();
        let changes = directory.update(files(&[("a.yaml", &service("a", 1)), ("b.yaml", &service("a", 2))]));
        assert_eq!(changes.events.len(), 1);
        assert_eq!(
            changes.problems[0].to_string(),
            "b.yaml:4: Service default/a is written twice; the one at a.yaml:4 is in force"
        );
    }

    #[test]
    fn lists_are_taken_apart() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: team\n";
        let mut directory = Directory::default();
        let changes = directory.update(files(&[("l.yaml", text)]));
        assert_eq!(shown(&changes.events), ["+Namespace team"]);
        let Event::Apply(object) = &changes.events[0] else { panic!("an apply") };
        assert_eq!(object.place.locate("metadata.name").unwrap().1, 7);
    }

    #[test]
    fn what_is_no_object_is_named_with_its_line() {
        let mut directory = Directory::default();
        let changes = directory.update(files(&[("l.yaml", "a: 1\n---\nkind: X\n")]));
        assert!(
            changes.problems[0].to_string().starts_with("l.yaml:1: apiVersion: missing"),
            "{:?}",
            changes.problems
        );
    }
}
