//! The requests without a response: which of them are sent now, and which wait.
//!
//! While there is a connection, frames are sent through `outgoing`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::attached::Attached;
use super::losses::Losses;
use super::stream::Inbox;
use super::{Error, Numbered};
use crate::types::{
    Method, PingParams, StreamCancelParams, StreamSteerParams, ToolApproveParams, ToolClaimParams,
    ToolResultParams,
};

/// Methods that the server accepts however many requests it has (protocol section 8).
const CONTROL: [&str; 6] = [
    StreamCancelParams::NAME,
    StreamSteerParams::NAME,
    ToolApproveParams::NAME,
    ToolClaimParams::NAME,
    ToolResultParams::NAME,
    PingParams::NAME,
];

pub(super) type Reply = oneshot::Sender<Result<Value, Error>>;

/// What to do with a response.
pub(super) enum Awaited {
    Reply(Reply),
    Attach {
        reply: Reply,
        stream_id: String,
        attached: Attached,
        /// Why only the server knows whether there is such a stream: its request got no response.
        doubt: Option<Error>,
    },
    /// A subscription was repeated for an attached stream.
    Reattach {
        stream_id: String,
    },
    /// Ignore it.
    Nothing,
}

impl Awaited {
    /// Whether the request is repeated on the next connection: not if its caller no longer waits.
    fn outlives_connection(&self) -> bool {
        match self {
            Self::Reply(reply) => !reply.is_closed(),
            Self::Attach { .. } | Self::Nothing => true,
            Self::Reattach { .. } => false,
        }
    }

    /// Whether the request attaches the stream for this inbox.
    fn attaches(&self, stream_id: &str, inbox: &Arc<Inbox>) -> bool {
        match self {
            Self::Attach { attached, .. } => Arc::ptr_eq(&attached.inbox, inbox),
            Self::Reattach { stream_id: id } => id == stream_id,
            Self::Reply(_) | Self::Nothing => false,
        }
    }
}

pub(super) struct OpenRequest {
    pub(super) method: &'static str,
    text: String,
    pub(super) awaited: Awaited,
    pub(super) losses: Losses,
    /// Whether it was sent on the current connection.
    is_sent: bool,
    /// When to send it again, if it was refused for the moment.
    due: Option<Instant>,
}

impl OpenRequest {
    /// How long to wait before asking again for a stream that may have begun.
    pub(super) fn postponed_by(&self, outcome: &Result<Value, Error>) -> Option<Duration> {
        match (&self.awaited, outcome) {
            (Awaited::Attach { doubt: Some(_), .. }, Err(error)) => error.retry_after(),
            _ => None,
        }
    }
}

#[derive(Default)]
pub(super) struct Requests {
    /// By request id, that is, in the order in which they were made.
    open: BTreeMap<i64, OpenRequest>,
    /// The ids of those that wait to be sent on this connection, in that order, the worst last.
    waiting: VecDeque<i64>,
    /// When to send which again. A request that is gone, or has another time by now, may still be here.
    postponed: BTreeSet<(Instant, i64)>,
    /// How many wait for their responses, and may at most.
    in_flight: u64,
    in_flight_max: u64,
    outgoing: Option<mpsc::UnboundedSender<Message>>,
}

impl Requests {
    /// There is a new socket, whose server takes so many requests at once. Returns the ids of the requests to repeat.
    pub(super) fn connected(
        &mut self,
        outgoing: mpsc::UnboundedSender<Message>,
        in_flight_max: u64,
    ) -> Vec<i64> {
        self.outgoing = Some(outgoing);
        self.in_flight_max = in_flight_max;
        self.open
            .retain(|_, request| request.awaited.outlives_connection());
        for (_, id) in std::mem::take(&mut self.postponed) {
            if let Some(request) = self.open.get_mut(&id) {
                request.due = None;
            }
        }
        self.open.keys().copied().collect()
    }

    /// Send these on the new connection.
    pub(super) fn send_all(&mut self, mut ids: Vec<i64>) {
        ids.sort_by_key(|id| self.open[id].losses.are_many()); // stable
        self.waiting.clear();
        // All of them are looked at: some don't count towards the server's limit.
        for id in ids {
            self.send(id);
        }
    }

    /// There is no socket: requests wait for the next one. Returns those for which the connection was lost again and
    /// again for so long.
    pub(super) fn disconnected(&mut self, give_up_after: Duration) -> Vec<OpenRequest> {
        self.outgoing = None;
        self.in_flight = 0;
        let now = Instant::now();
        let mut unanswered = Vec::new();
        for (id, request) in &mut self.open {
            if !std::mem::take(&mut request.is_sent) {
                continue;
            }
            request.losses.add(now);
            if request.losses.are_too_many(now, give_up_after) {
                unanswered.push(*id);
            }
        }
        unanswered
            .iter()
            .filter_map(|id| self.open.remove(id))
            .collect()
    }

    /// What each is for, and its losses.
    pub(super) fn awaited(&self) -> impl Iterator<Item = (&Awaited, Losses)> {
        self.open
            .values()
            .map(|request| (&request.awaited, request.losses))
    }

    /// The response to this request has come.
    pub(super) fn answered(&mut self, id: i64) -> Option<OpenRequest> {
        let request = self.open.remove(&id)?;
        self.in_flight = self.in_flight.saturating_sub(1);
        Some(request)
    }

    /// Send a request that was answered again, after a pause.
    pub(super) fn postpone(&mut self, id: i64, request: OpenRequest, pause: Duration) {
        let due = Instant::now() + pause;
        let request = OpenRequest {
            losses: Losses::default(),
            is_sent: false,
            due: Some(due),
            ..request
        };
        self.postponed.insert((due, id));
        self.open.insert(id, request);
    }

    /// When to call `send_due`, if a request was postponed. Asked for each frame, so it does not look at all requests.
    pub(super) fn next_due(&self) -> Option<Instant> {
        Some(self.postponed.first()?.0)
    }

    /// Send the postponed requests that are due.
    pub(super) fn send_due(&mut self, now: Instant) {
        let mut ids = Vec::new();
        while let Some((due, id)) = self.postponed.pop_first() {
            if due > now {
                self.postponed.insert((due, id));
                break;
            }
            if let Some(request) = self.open.get_mut(&id)
                && request.due.take_if(|it| *it == due).is_some()
            {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        self.waiting.extend(ids);
        self.flush();
    }

    /// Drop what waits to attach the stream for this inbox.
    pub(super) fn drop_attaching(&mut self, stream_id: &str, inbox: &Arc<Inbox>) {
        self.open
            .retain(|_, request| request.is_sent || !request.awaited.attaches(stream_id, inbox));
    }

    /// Add a request, which `send` sends; returns its id.
    pub(super) fn add(&mut self, request: Numbered, awaited: Awaited, losses: Losses) -> i64 {
        let Numbered { id, method, text } = request;
        let request = OpenRequest {
            method,
            text,
            awaited,
            losses,
            is_sent: false,
            due: None,
        };
        self.open.insert(id, request);
        id
    }

    /// Send a request now, or when it may be sent.
    pub(super) fn send(&mut self, id: i64) {
        if !self.transmit(id) {
            self.waiting.push_back(id);
        }
    }

    /// Send requests that wait, until the server has as many as it takes.
    pub(super) fn flush(&mut self) {
        let mut passed_over = Vec::new();
        while self.in_flight < self.in_flight_max
            && let Some(id) = self.waiting.pop_front()
        {
            if !self.transmit(id) {
                passed_over.push(id);
            }
        }
        for id in passed_over.into_iter().rev() {
            self.waiting.push_front(id);
        }
    }

    /// Send a request, if it may be sent now; whether it need not wait. Of the requests for which the connection may be
    /// closed, only one is in flight.
    fn transmit(&mut self, id: i64) -> bool {
        let Some(request) = self.open.get(&id) else {
            return true;
        };
        let is_full = self.in_flight >= self.in_flight_max && !CONTROL.contains(&request.method);
        if self.outgoing.is_none() || is_full {
            return false;
        }
        if matches!(&request.awaited, Awaited::Reply(reply) if reply.is_closed()) {
            self.open.remove(&id);
            return true;
        }
        let is_suspect = |request: &OpenRequest| request.losses.are_suspicious();
        let mut others = self.open.values();
        if is_suspect(request) && others.any(|other| other.is_sent && is_suspect(other)) {
            return false;
        }
        if let (Some(request), Some(outgoing)) = (self.open.get_mut(&id), &self.outgoing) {
            request.is_sent = true;
            self.in_flight += 1;
            let _ = outgoing.send(Message::text(request.text.clone())); // on an error reading reports the loss
        }
        true
    }

    /// The connection has ended for good: none of them gets a response any more.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = OpenRequest> + use<> {
        std::mem::take(&mut self.open).into_values()
    }
}

#[cfg(test)]
mod tests;
