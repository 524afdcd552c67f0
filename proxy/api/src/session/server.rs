//! The controller's end: what one sidecar asked for, what it was told, how it took it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_core::model::name::ResourceName;

use crate::encoded::Encoded;
use crate::limits::{
    MAX_NAMES_PER_REQUEST, MAX_RESOURCE_BYTES, MAX_SUBSCRIPTIONS, MAX_UNKNOWN_BYTES, RESPONSE_BYTES,
};
use crate::name::{self, NameError, TYPES, index_of, known_type};
use crate::pb::config::{ClientInfo, DeltaRequest, DeltaResponse, Resource, ResourceError, ResourceType};

/// One stream of one sidecar.
#[derive(Debug, Default)]
pub struct Session {
    info: Option<ClientInfo>,
    kinds: [Kind; 4],
    /// Names of types that a newer sidecar asks for, until it is told that they stand for nothing here.
    unknown: BTreeMap<i32, Vec<String>>,
    /// What the sidecar has seen.
    held_as_of: u64,
    /// What this stream has said.
    said_as_of: u64,
    nonce: u64,
}

/// What a request changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Names that were not subscribed to before.
    pub subscribed: Vec<ResourceName>,
    /// Names that were given back.
    pub unsubscribed: Vec<ResourceName>,
    /// Whether a response was answered: there may be more to say now.
    pub answered: bool,
    /// What of it was refused.
    pub refused: Vec<Refusal>,
}

/// One resource that a sidecar refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The resource.
    pub name: ResourceName,
    /// The field, or nothing for the whole.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// How it stands with one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not answered yet.
    Unanswered,
    /// Sent, the sidecar has not answered.
    Sent,
    /// In force; absent names too.
    Programmed,
    /// The sidecar refused it, and keeps what it held.
    Refused {
        /// The field, or nothing for the whole.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The sidecar does not keep to the protocol: the stream must be given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A type of resources that no version has.
    #[error("a request of type {0}, which does not exist")]
    Type(i32),
    /// A text that is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too many names in one message.
    #[error("{0} names in one request, more than {MAX_NAMES_PER_REQUEST}")]
    TooLarge(usize),
    /// Too much is asked for that this version does not know.
    #[error("more than {MAX_UNKNOWN_BYTES} bytes of names of unknown types")]
    Unknown,
    /// Too many names in all.
    #[error("more than {MAX_SUBSCRIPTIONS} names subscribed to")]
    TooMany,
}

#[derive(Debug, Default)]
struct Kind {
    names: BTreeMap<ResourceName, Told>,
    /// Names that may differ from what was said.
    dirty: BTreeSet<ResourceName>,
    outstanding: Option<Outstanding>,
}

/// The last word on a name.
#[derive(Debug)]
struct Told {
    said: Said,
    status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Absent,
    Version(Arc<str>),
}

#[derive(Debug)]
struct Outstanding {
    nonce: u64,
    sent: Vec<(ResourceName, Said)>,
}

impl Session {
    /// Takes a request in.
    pub fn receive(&mut self, request: DeltaRequest) -> Result<Change, ProtocolError> {
        check_size(&request)?;
        let mut change = Change::default();
        self.held_as_of = self.held_as_of.max(request.as_of);
        if let Some(info) = request.client {
            self.info = Some(info);
        }
        let Some(kind) = known_type(request.r#type) else {
            return self.unknown(request.r#type, request.subscribe).map(|()| change);
        };
        let state = &mut self.kinds[index_of(kind)];
        state.answer(kind, request.response_nonce, &request.errors, &mut change);
        for text in &request.unsubscribe {
            state.unsubscribe(name::parse(kind, text)?, &mut change);
        }
        for text in &request.subscribe {
            let held = request.initial_versions.get(text);
            state.subscribe(name::parse(kind, text)?, held.map(String::as_str), &mut change);
        }
        if self.subscriptions() > MAX_SUBSCRIPTIONS { Err(ProtocolError::TooMany) } else { Ok(change) }
    }

    /// Says that a name may stand for something else now.
    pub fn mark(&mut self, name: &ResourceName) {
        let kind = &mut self.kinds[index_of(name::type_of(name))];
        if kind.names.contains_key(name) {
            kind.dirty.insert(name.clone());
        }
    }

    /// Says that every name may stand for something else now.
    pub fn mark_all(&mut self) {
        for kind in &mut self.kinds {
            kind.dirty.extend(kind.names.keys().cloned());
        }
    }

    /// The next message to send, until `None`. `current` says what a name stands for, in a world that is at least as
    /// new as `as_of`. Nothing is said while `as_of` is 0 or behind what the sidecar has seen.
    pub fn next_response(
        &mut self,
        as_of: u64,
        mut current: impl FnMut(&ResourceName) -> Option<Encoded>,
    ) -> Option<DeltaResponse> {
        if self.lags(as_of) {
            return None;
        }
        for kind in TYPES {
            let state = &mut self.kinds[index_of(kind)];
            if let Some(mut response) = state.next_response(self.nonce + 1, &mut current) {
                self.nonce += 1;
                self.said_as_of = as_of;
                response.r#type = kind.into();
                response.as_of = as_of;
                return Some(response);
            }
        }
        let (kind, removed) = self.unknown.pop_first()?;
        self.nonce += 1;
        self.said_as_of = as_of;
        Some(DeltaResponse { r#type: kind, removed, nonce: self.nonce, as_of, ..DeltaResponse::default() })
    }

    /// A sidecar of a newer version asks for what this one does not know: it is told so, and served with all the rest.
    fn unknown(&mut self, kind: i32, names: Vec<String>) -> Result<(), ProtocolError> {
        if kind <= 0 {
            return Err(ProtocolError::Type(kind));
        }
        if !names.is_empty() {
            self.unknown.entry(kind).or_default().extend(names);
        }
        let waiting = self.unknown.values().flatten();
        let bytes: usize = waiting.map(|name| name.len() + size_of::<String>()).sum();
        if bytes > MAX_UNKNOWN_BYTES { Err(ProtocolError::Unknown) } else { Ok(()) }
    }

    /// A message that says only how new everything is that was said before; nothing while there is more to say.
    /// Now and then such a message keeps a sidecar from believing a replica that is further behind.
    pub fn progress(&mut self, as_of: u64) -> Option<DeltaResponse> {
        let known = self.said_as_of.max(self.held_as_of);
        if self.has_more() || self.is_awaiting() || as_of <= known || self.subscriptions() == 0 {
            return None;
        }
        self.nonce += 1;
        self.said_as_of = as_of;
        self.kinds[0].outstanding = Some(Outstanding { nonce: self.nonce, sent: Vec::new() });
        let kind = TYPES[0].into();
        Some(DeltaResponse { r#type: kind, nonce: self.nonce, as_of, ..DeltaResponse::default() })
    }

    /// Whether there is a name that may stand for something else than was said.
    pub fn has_more(&self) -> bool {
        !self.unknown.is_empty() || self.kinds.iter().any(|kind| !kind.dirty.is_empty())
    }

    /// Whether a response is without an answer.
    pub fn is_awaiting(&self) -> bool {
        self.kinds.iter().any(|kind| kind.outstanding.is_some())
    }

    /// Whether a world as of `as_of` is too old for this sidecar, or not known whole (0).
    pub fn lags(&self, as_of: u64) -> bool {
        as_of == 0 || as_of < self.held_as_of
    }

    /// The highest `as_of` that the sidecar says it has taken in.
    pub fn held_as_of(&self) -> u64 {
        self.held_as_of
    }

    /// What the sidecar says of itself.
    pub fn info(&self) -> Option<&ClientInfo> {
        self.info.as_ref()
    }

    /// How many names are subscribed to.
    pub fn subscriptions(&self) -> usize {
        self.kinds.iter().map(|kind| kind.names.len()).sum()
    }

    /// Whether a name is subscribed to.
    pub fn is_subscribed(&self, name: &ResourceName) -> bool {
        self.kinds[index_of(name::type_of(name))].names.contains_key(name)
    }

    /// Every name, the version last said (`None`: absent, or nothing yet), and how it stands.
    pub fn names(&self) -> impl Iterator<Item = (&ResourceName, Option<&Arc<str>>, &Status)> {
        let all = self.kinds.iter().flat_map(|kind| &kind.names);
        all.map(|(name, told)| (name, told.said.version(), &told.status))
    }
}

impl Kind {
    fn answer(&mut self, kind: ResourceType, nonce: u64, errors: &[ResourceError], change: &mut Change) {
        let Some(answered) = self.outstanding.take_if(|outstanding| outstanding.nonce == nonce) else {
            return;
        };
        change.answered = true;
        for error in errors {
            let Ok(name) = name::parse(kind, &error.name) else { continue };
            change.refused.push(Refusal { name, path: error.path.clone(), reason: error.reason.clone() });
        }
        for (name, said) in answered.sent {
            let refusal = change.refused.iter().find(|refusal| refusal.name == name);
            // A name that was given back, and perhaps asked for again, since then has a new account.
            if let Some(told) = self.names.get_mut(&name).filter(|told| told.said == said) {
                told.status = refusal.map_or(Status::Programmed, Status::from);
            }
        }
    }

    fn subscribe(&mut self, name: ResourceName, held: Option<&str>, change: &mut Change) {
        if self.names.contains_key(&name) {
            return;
        }
        let told = match held {
            Some(version) => Told { said: Said::Version(version.into()), status: Status::Programmed },
            None => Told { said: Said::Nothing, status: Status::Unanswered },
        };
        self.names.insert(name.clone(), told);
        self.dirty.insert(name.clone());
        change.subscribed.push(name);
    }

    fn unsubscribe(&mut self, name: ResourceName, change: &mut Change) {
        if self.names.remove(&name).is_some() {
            self.dirty.remove(&name);
            change.unsubscribed.push(name);
        }
    }

    fn next_response(
        &mut self,
        nonce: u64,
        current: &mut impl FnMut(&ResourceName) -> Option<Encoded>,
    ) -> Option<DeltaResponse> {
        if self.outstanding.is_some() {
            return None;
        }
        let mut response = DeltaResponse { nonce, ..DeltaResponse::default() };
        let mut sent = Vec::new();
        let mut bytes = 0;
        while bytes < RESPONSE_BYTES && sent.len() < MAX_NAMES_PER_REQUEST {
            let Some(name) = self.dirty.pop_first() else { break };
            let now = current(&name);
            let Some(said) = self.say(&name, now.as_ref()) else { continue };
            bytes += write(&mut response, &name, now.as_ref());
            sent.push((name, said));
        }
        if sent.is_empty() {
            return None;
        }
        self.outstanding = Some(Outstanding { nonce, sent });
        Some(response)
    }

    /// Enters what is now said of a name; nothing if that is what was said before, or cannot be sent.
    fn say(&mut self, name: &ResourceName, now: Option<&Encoded>) -> Option<Said> {
        let said = now.map_or(Said::Absent, |encoded| Said::Version(encoded.version().clone()));
        let told = self.names.get_mut(name).filter(|told| told.said != said)?;
        let size = now.map_or(0, |encoded| encoded.body().len());
        let fits = size <= MAX_RESOURCE_BYTES;
        *told = Told { said: said.clone(), status: if fits { Status::Sent } else { too_large(size) } };
        fits.then_some(said)
    }
}

impl Said {
    fn version(&self) -> Option<&Arc<str>> {
        if let Self::Version(version) = self { Some(version) } else { None }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        Self::Refused { path: refusal.path.clone(), reason: refusal.reason.clone() }
    }
}

fn too_large(size: usize) -> Status {
    let reason = format!("{size} bytes, more than {MAX_RESOURCE_BYTES}: not sent");
    Status::Refused { path: String::new(), reason }
}

/// Puts a name's meaning into a response; how many bytes that is.
fn write(response: &mut DeltaResponse, name: &ResourceName, now: Option<&Encoded>) -> usize {
    let text = name.to_string();
    let size = text.len() + now.map_or(0, |encoded| encoded.body().len());
    match now {
        Some(encoded) => response.resources.push(resource(text, encoded)),
        None => response.removed.push(text),
    }
    size
}

fn resource(name: String, encoded: &Encoded) -> Resource {
    Resource { name, version: encoded.version().to_string(), body: encoded.body().clone() }
}

fn check_size(request: &DeltaRequest) -> Result<(), ProtocolError> {
    let names = request.subscribe.len() + request.unsubscribe.len();
    if names > MAX_NAMES_PER_REQUEST { Err(ProtocolError::TooLarge(names)) } else { Ok(()) }
}
