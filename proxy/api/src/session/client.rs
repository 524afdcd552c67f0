//! The sidecar's end: what it wants, what it holds, what it has to say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use weft_core::model::name::ResourceName;

use crate::encoded::version_of;
use crate::error::DecodeError;
use crate::limits::MAX_NAMES_PER_REQUEST;
use crate::name::{self, TYPES, index_of, known_type};
use crate::pb::config::{ClientInfo, DeltaRequest, DeltaResponse, Resource, ResourceError, ResourceType};

/// What a sidecar wants and holds, over all its streams.
#[derive(Debug)]
pub struct Session {
    info: ClientInfo,
    names: BTreeMap<ResourceName, Wanted>,
    as_of: u64,
    streams: u64,
    stream: Option<Stream>,
}

/// Which of a session's streams, so that what comes late from an earlier one is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(u64);

/// What a response changes. The last good state stays in force until an event says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The name stands for this now.
    Set {
        /// The name.
        name: ResourceName,
        /// The version, for [`Session::resume`].
        version: Arc<str>,
        /// The decoded resource.
        value: T,
    },
    /// The name stands for nothing.
    Absent {
        /// The name.
        name: ResourceName,
    },
    /// What the name stands for was refused; what was held before stays, see [`crate::error::ErrorKind`].
    Refused {
        /// The name.
        name: ResourceName,
        /// Why.
        error: DecodeError,
    },
}

/// The other end does not keep to the protocol: the stream must be given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A type of resources that does not exist.
    #[error("a response of type {0}, which is unknown")]
    Type(i32),
    /// A nonce of 0.
    #[error("a response without a nonce")]
    Nonce,
    /// A response that is older than what is held.
    #[error("a response as of {got}, older than {held}, which is held")]
    Stale {
        /// What the session has seen.
        held: u64,
        /// What the response says; 0 stands for a controller that does not know the world yet.
        got: u64,
    },
}

/// One name that is wanted.
#[derive(Debug, Default)]
struct Wanted {
    held: Held,
    /// Whether the last word on the name was refused: then `held` is older than what the controller says.
    refused: bool,
}

/// What is held of a name.
#[derive(Debug, Default, PartialEq, Eq)]
enum Held {
    /// Not answered yet.
    #[default]
    Unanswered,
    /// It stands for nothing.
    Absent,
    /// This version.
    Version(Arc<str>),
}

/// What is to be said on the present stream.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    introduced: bool,
    last_nonce: u64,
    outgoing: [Outgoing; 4],
}

#[derive(Debug, Default)]
struct Outgoing {
    subscribe: BTreeSet<ResourceName>,
    unsubscribe: BTreeSet<ResourceName>,
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
struct Answer {
    nonce: u64,
    errors: Vec<ResourceError>,
}

impl Session {
    /// A session that holds nothing.
    pub fn new(info: ClientInfo) -> Self {
        Self { info, names: BTreeMap::new(), as_of: 0, streams: 0, stream: None }
    }

    /// A session that holds what an earlier process of the sidecar left: names with versions, taken in up to `as_of`.
    pub fn resume(
        info: ClientInfo,
        as_of: u64,
        held: impl IntoIterator<Item = (ResourceName, Arc<str>)>,
    ) -> Self {
        let wanted = |version| Wanted { held: Held::Version(version), refused: false };
        let names = held.into_iter().map(|(name, version)| (name, wanted(version))).collect();
        Self { names, as_of, ..Self::new(info) }
    }

    /// Wants a name from now on. Wanting it twice changes nothing.
    pub fn want(&mut self, name: ResourceName) {
        if self.names.contains_key(&name) {
            return;
        }
        if let Some(stream) = &mut self.stream {
            stream.of(&name).subscribe.insert(name.clone());
        }
        self.names.insert(name, Wanted::default());
    }

    /// Gives a name back; whatever is held of it must be dropped by the caller.
    pub fn release(&mut self, name: &ResourceName) {
        if self.names.remove(name).is_none() {
            return;
        }
        if let Some(stream) = &mut self.stream {
            let outgoing = stream.of(name);
            if !outgoing.subscribe.remove(name) {
                outgoing.unsubscribe.insert(name.clone());
            }
        }
    }

    /// Begins a new stream, in place of the one before. [`Self::next_request`] has the first messages.
    pub fn connect(&mut self) -> StreamId {
        self.streams += 1;
        let mut stream = Stream::new(StreamId(self.streams));
        for name in self.names.keys() {
            stream.of(name).subscribe.insert(name.clone());
        }
        let id = stream.id;
        self.stream = Some(stream);
        id
    }

    /// The stream broke: nothing is said until [`Self::connect`].
    pub fn disconnect(&mut self) {
        self.stream = None;
    }

    /// The next message to send, until `None`.
    pub fn next_request(&mut self) -> Option<DeltaRequest> {
        let stream = self.stream.as_mut()?;
        let kind = TYPES.into_iter().find(|kind| !stream.outgoing[index_of(*kind)].is_empty())?;
        let mut request = stream.outgoing[index_of(kind)].take(kind, &self.names);
        request.as_of = self.as_of;
        request.client = (!stream.introduced).then(|| self.info.clone());
        stream.introduced = true;
        Some(request)
    }

    /// Takes a response in: each resource is decoded, and refused alone where that fails. The answer is in
    /// [`Self::next_request`]. A repeated response, or one of an earlier stream, changes nothing.
    pub fn receive<T>(
        &mut self,
        from: StreamId,
        response: DeltaResponse,
        mut decode: impl FnMut(&ResourceName, &Bytes) -> Result<T, DecodeError>,
    ) -> Result<Vec<Event<T>>, ProtocolError> {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.id == from) else {
            return Ok(Vec::new());
        };
        let kind = known_type(response.r#type).ok_or(ProtocolError::Type(response.r#type))?;
        match response.nonce {
            0 => return Err(ProtocolError::Nonce),
            nonce if nonce <= stream.last_nonce => return Ok(Vec::new()),
            nonce => stream.last_nonce = nonce,
        }
        if response.as_of == 0 || response.as_of < self.as_of {
            return Err(ProtocolError::Stale { held: self.as_of, got: response.as_of });
        }
        self.as_of = response.as_of;
        Ok(self.apply(kind, response, &mut decode))
    }

    /// The highest `as_of` taken in; 0 for none.
    pub fn as_of(&self) -> u64 {
        self.as_of
    }

    /// Whether a wanted name has been answered, on whatever stream: with a resource or with its absence.
    pub fn is_answered(&self, name: &ResourceName) -> bool {
        self.names.get(name).is_some_and(|wanted| wanted.held != Held::Unanswered)
    }

    /// Every name that is wanted, with the version that is held of it.
    pub fn wanted(&self) -> impl Iterator<Item = (&ResourceName, Option<&Arc<str>>)> {
        self.names.iter().map(|(name, wanted)| (name, wanted.held.version()))
    }

    fn apply<T>(
        &mut self,
        kind: ResourceType,
        response: DeltaResponse,
        decode: &mut impl FnMut(&ResourceName, &Bytes) -> Result<T, DecodeError>,
    ) -> Vec<Event<T>> {
        let mut errors = Vec::new();
        let mut events = Vec::new();
        for resource in &response.resources {
            let event = parse(kind, &resource.name).and_then(|name| self.set(name, resource, decode));
            match event {
                Ok(event) => events.extend(event),
                Err(error) => errors.push(refusal(&resource.name, &error)),
            }
        }
        for text in &response.removed {
            match parse(kind, text) {
                Ok(name) => events.extend(self.remove(name)),
                Err(error) => errors.push(refusal(text, &error)),
            }
        }
        errors.extend(events.iter().filter_map(refused));
        if let Some(stream) = &mut self.stream {
            stream.outgoing[index_of(kind)].answers.push_back(Answer { nonce: response.nonce, errors });
        }
        events
    }

    fn set<T>(
        &mut self,
        name: ResourceName,
        resource: &Resource,
        decode: &mut impl FnMut(&ResourceName, &Bytes) -> Result<T, DecodeError>,
    ) -> Result<Option<Event<T>>, DecodeError> {
        let Some(wanted) = self.names.get_mut(&name) else { return Ok(None) };
        if wanted.held.version().is_some_and(|held| **held == *resource.version) && !wanted.refused {
            return Ok(None);
        }
        let decoded = check_version(resource).and_then(|()| decode(&name, &resource.body));
        wanted.refused = decoded.is_err();
        Ok(Some(match decoded {
            Ok(value) => {
                let version: Arc<str> = resource.version.as_str().into();
                wanted.held = Held::Version(version.clone());
                Event::Set { name, version, value }
            }
            Err(error) => Event::Refused { name, error },
        }))
    }

    fn remove<T>(&mut self, name: ResourceName) -> Option<Event<T>> {
        let wanted = self.names.get_mut(&name)?;
        let known = wanted.held == Held::Absent && !wanted.refused;
        *wanted = Wanted { held: Held::Absent, refused: false };
        (!known).then_some(Event::Absent { name })
    }
}

impl Held {
    fn version(&self) -> Option<&Arc<str>> {
        if let Self::Version(version) = self { Some(version) } else { None }
    }
}

impl Stream {
    fn new(id: StreamId) -> Self {
        Self { id, introduced: false, last_nonce: 0, outgoing: Default::default() }
    }

    fn of(&mut self, name: &ResourceName) -> &mut Outgoing {
        &mut self.outgoing[index_of(name::type_of(name))]
    }
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.unsubscribe.is_empty() && self.subscribe.is_empty()
    }

    /// The next message: an answer, then what is given back, then what is wanted.
    fn take(&mut self, kind: ResourceType, names: &BTreeMap<ResourceName, Wanted>) -> DeltaRequest {
        let answer = self.answers.pop_front();
        let unsubscribe = take_some(&mut self.unsubscribe, MAX_NAMES_PER_REQUEST);
        let subscribe = take_some(&mut self.subscribe, MAX_NAMES_PER_REQUEST - unsubscribe.len());
        let held = |name: &ResourceName| {
            // A name whose last word was refused is asked for afresh: the refusal must be lifted even if
            // the controller has gone back to what is held.
            let version = names.get(name).filter(|wanted| !wanted.refused)?.held.version()?;
            Some((name.to_string(), version.to_string()))
        };
        DeltaRequest {
            r#type: kind.into(),
            initial_versions: subscribe.iter().filter_map(held).collect(),
            subscribe: subscribe.iter().map(ToString::to_string).collect(),
            unsubscribe: unsubscribe.iter().map(ToString::to_string).collect(),
            response_nonce: answer.as_ref().map_or(0, |answer| answer.nonce),
            errors: answer.map_or_else(Vec::new, |answer| answer.errors),
            as_of: 0,
            client: None,
        }
    }
}

fn take_some(names: &mut BTreeSet<ResourceName>, most: usize) -> Vec<ResourceName> {
    std::iter::from_fn(|| names.pop_first()).take(most).collect()
}

fn parse(kind: ResourceType, text: &str) -> Result<ResourceName, DecodeError> {
    name::parse(kind, text).map_err(DecodeError::invalid)
}

fn check_version(resource: &Resource) -> Result<(), DecodeError> {
    let hash = version_of(&resource.body);
    if hash == resource.version {
        return Ok(());
    }
    Err(DecodeError::invalid(format!("version {:?} is not the hash of the bytes, {hash}", resource.version)))
}

fn refused<T>(event: &Event<T>) -> Option<ResourceError> {
    if let Event::Refused { name, error } = event { Some(refusal(&name.to_string(), error)) } else { None }
}

fn refusal(name: &str, error: &DecodeError) -> ResourceError {
    ResourceError { name: name.to_owned(), path: error.path().to_owned(), reason: error.reason().to_owned() }
}
