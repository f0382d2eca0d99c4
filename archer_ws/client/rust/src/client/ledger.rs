//! What responses, events and lost connections mean for the requests without a response and the attached streams. A
//! request for which the connection is lost again and again fails.
//!
//! Owned by the connection's task; does no I/O itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::attached::Attached;
use super::losses::Losses;
use super::requests::{Awaited, OpenRequest, Reply, Requests};
use super::stream::{Event, Inbox};
use super::{Error, Ids, Numbered};
use crate::types::{
    ChatSendParams, ErrorKind, Method, Notification, RequestId, Response, ServerMessage,
    StreamCancelParams, StreamSubscribeParams, StreamUnsubscribeParams,
};

/// After a gap in the events the stream is subscribed to again. After more than this many gaps in a row it fails.
const GAPS_MAX: u32 = 3;

/// A command from a handle to the connection's task.
#[derive(Debug)]
pub(super) enum Command {
    Call {
        request: Numbered,
        reply: Reply,
    },
    /// A request whose result attaches a stream.
    Open {
        request: Numbered,
        reply: Reply,
        stream_id: String,
        attached: Attached,
    },
    /// The reader was dropped.
    LetGo {
        stream_id: String,
        inbox: Arc<Inbox>,
        cancel: bool,
    },
}

pub(super) struct Ledger {
    ids: Ids,
    give_up_after: Duration,
    requests: Requests,
    streams: HashMap<String, Attached>,
    /// When to ask again for which stream, if its subscription was refused for the moment.
    postponed: BTreeSet<(Instant, String)>,
}

impl Ledger {
    pub(super) fn new(ids: Ids, give_up_after: Duration) -> Self {
        Self {
            ids,
            give_up_after,
            requests: Requests::default(),
            streams: HashMap::new(),
            postponed: BTreeSet::new(),
        }
    }

    /// There is a new socket, whose server takes so many requests at once: resume each stream after its last event, then
    /// repeat the requests without a response.
    pub(super) fn connected(
        &mut self,
        outgoing: mpsc::UnboundedSender<Message>,
        in_flight_max: u64,
    ) {
        self.postponed.clear();
        let repeated = self.requests.connected(outgoing, in_flight_max);
        let mut streams: Vec<_> = self
            .streams
            .iter()
            .map(|(stream_id, attached)| (attached.losses.are_suspicious(), stream_id.clone()))
            .collect();
        streams.sort();
        let mut waiting: Vec<i64> = streams
            .into_iter()
            .filter_map(|(_, stream_id)| self.subscription(stream_id))
            .collect();
        waiting.extend(repeated);
        self.requests.send_all(waiting);
    }

    /// There is no socket: requests wait for the next one. Those fail for which the connection was lost again and again
    /// for so long.
    pub(super) fn disconnected(&mut self) {
        let unanswered = self.requests.disconnected(self.give_up_after);
        for (awaited, losses) in self.requests.awaited() {
            if let Awaited::Reattach { stream_id } = awaited
                && let Some(attached) = self.streams.get_mut(stream_id)
            {
                attached.losses = losses;
            }
        }
        for request in unanswered {
            self.unanswered(request);
        }
    }

    fn unanswered(&mut self, request: OpenRequest) {
        let error = Error::Unanswered {
            method: request.method,
            losses: request.losses.count,
        };
        match request.awaited {
            // Only the server knows whether the stream has begun: ask for it.
            Awaited::Attach {
                reply,
                stream_id,
                attached,
                doubt: None,
            } if request.method == ChatSendParams::NAME => {
                match self.ids.request(StreamSubscribeParams::new(&stream_id)) {
                    Ok(request) => self.ask(
                        request,
                        Awaited::Attach {
                            reply,
                            stream_id,
                            attached,
                            doubt: Some(error),
                        },
                    ),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            awaited => self.settle(awaited, Err(error)),
        }
    }

    /// When to call `ask_again`, if something was refused for the moment.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let stream = self.postponed.first().map(|(due, _)| *due);
        stream.into_iter().chain(self.requests.next_due()).min()
    }

    /// Send what was postponed and is due.
    pub(super) fn ask_again(&mut self) {
        let now = Instant::now();
        self.requests.send_due(now);
        while let Some((due, stream_id)) = self.postponed.pop_first() {
            if due > now {
                self.postponed.insert((due, stream_id));
                break;
            }
            self.subscribe(stream_id);
        }
    }

    /// Handle a command.
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Call { request, reply } => self.ask(request, Awaited::Reply(reply)),
            Command::Open {
                request,
                reply,
                stream_id,
                attached,
            } => self.ask(
                request,
                Awaited::Attach {
                    reply,
                    stream_id,
                    attached,
                    doubt: None,
                },
            ),
            Command::LetGo {
                stream_id,
                inbox,
                cancel,
            } => self.let_go(stream_id, &inbox, cancel),
        }
    }

    fn let_go(&mut self, stream_id: String, inbox: &Arc<Inbox>, cancel: bool) {
        if self
            .streams
            .get(&stream_id)
            .is_some_and(|attached| !Arc::ptr_eq(&attached.inbox, inbox))
        {
            return; // another reader has replaced this one: the stream stays attached for it
        }
        // What was not sent is not needed any more. It would be sent behind what ends the stream here.
        self.requests.drop_attaching(&stream_id, inbox);
        let was_attached = self.streams.remove(&stream_id).is_some();
        if cancel {
            self.ask_for_nothing(StreamCancelParams::new(stream_id));
        } else if was_attached {
            self.ask_for_nothing(StreamUnsubscribeParams::new(stream_id));
        }
    }

    fn ask_for_nothing<M: Method>(&mut self, params: M) {
        if let Ok(request) = self.ids.request(params) {
            self.ask(request, Awaited::Nothing);
        }
    }

    /// Send a request; without a socket it waits for the next one.
    fn ask(&mut self, request: Numbered, awaited: Awaited) {
        let id = self.requests.add(request, awaited, Losses::default());
        self.requests.send(id);
    }

    fn subscribe(&mut self, stream_id: String) {
        if let Some(id) = self.subscription(stream_id) {
            self.requests.send(id);
        }
    }

    /// The request that attaches a stream again.
    fn subscription(&mut self, stream_id: String) -> Option<i64> {
        let attached = self.streams.get(&stream_id)?;
        let params = StreamSubscribeParams {
            after: attached.last_seq,
            ..StreamSubscribeParams::new(&stream_id)
        };
        let losses = attached.losses;
        let request = self.ids.request(params).ok()?;
        Some(
            self.requests
                .add(request, Awaited::Reattach { stream_id }, losses),
        )
    }

    /// Handle a frame from the server; returns whether it is the response to a request that succeeded.
    pub(super) fn take(&mut self, text: &str) -> Result<bool, Error> {
        match serde_json::from_str(text)? {
            ServerMessage::Response(Response {
                id: Some(RequestId::Number(id)),
                outcome,
            }) => {
                let succeeded = outcome.is_ok();
                if let Some(request) = self.requests.answered(id) {
                    self.answered(id, request, outcome.map_err(|error| error.data.into()));
                }
                Ok(succeeded)
            }
            // A response without an id: the server could not read a frame of this client.
            ServerMessage::Response(Response { outcome, .. }) => {
                let said = outcome
                    .map_or_else(|error| error.message, |_| "a response to no request".into());
                Err(Error::Protocol(said))
            }
            ServerMessage::Notification(notification) => {
                self.deliver(notification, text);
                Ok(false)
            }
        }
    }

    fn answered(&mut self, id: i64, request: OpenRequest, outcome: Result<Value, Error>) {
        if let Some(pause) = request.postponed_by(&outcome) {
            // The server has not loaded its stored streams yet, for example.
            self.requests.postpone(id, request, pause);
        } else {
            self.settle(request.awaited, outcome);
        }
        self.requests.flush();
    }

    fn settle(&mut self, awaited: Awaited, outcome: Result<Value, Error>) {
        match (awaited, outcome) {
            (Awaited::Reply(reply), outcome) => drop(reply.send(outcome)),
            (
                Awaited::Attach {
                    reply,
                    stream_id,
                    mut attached,
                    ..
                },
                Ok(result),
            ) if !reply.is_closed() => {
                attached.begins(&result);
                if let Some(former) = self.streams.insert(stream_id, attached) {
                    former.inbox.fail(Error::Replaced);
                }
                drop(reply.send(Ok(result)));
            }
            // The caller gave up before the response.
            (Awaited::Attach { stream_id, .. }, Ok(_)) => {
                if !self.streams.contains_key(&stream_id) {
                    self.ask_for_nothing(StreamUnsubscribeParams::new(stream_id));
                }
            }
            (
                Awaited::Attach {
                    reply,
                    doubt: Some(doubt),
                    ..
                },
                Err(Error::Refused(info)),
            ) if info.kind == ErrorKind::StreamNotFound => drop(reply.send(Err(doubt))),
            (Awaited::Attach { reply, .. }, outcome) => drop(reply.send(outcome)),
            (Awaited::Reattach { stream_id }, Err(error)) => {
                if let Some(pause) = error.retry_after() {
                    if let Some(attached) = self.streams.get_mut(&stream_id) {
                        attached.losses = Losses::default();
                    }
                    // The server has not loaded its stored streams yet, for example. The stream itself is as it was.
                    self.postponed.insert((Instant::now() + pause, stream_id));
                } else if let Some(attached) = self.streams.remove(&stream_id) {
                    attached.inbox.fail(error);
                }
            }
            (Awaited::Reattach { stream_id }, Ok(result)) => {
                if let Some(attached) = self.streams.get_mut(&stream_id) {
                    attached.begins(&result);
                }
            }
            (Awaited::Nothing, _) => {}
        }
    }

    /// Deliver a notification. Any that has numbers is an event of its stream, known or not (protocol section 5.6).
    fn deliver(&mut self, notification: Notification, frame: &str) {
        let (Some(stream_id), Some((from, seq))) =
            (notification.stream_id(), notification.numbers())
        else {
            // Nothing to do: a heartbeat has only to arrive, and a draining server closes the socket itself.
            return;
        };
        let stream_id = stream_id.to_owned();
        if matches!(&notification, Notification::StreamDelta(it) if it.reset == Some(true)) {
            self.reset(&stream_id, from);
        }
        if !self.advance(&stream_id, from, seq) {
            return;
        }
        let is_last = matches!(notification, Notification::StreamEnded(_));
        if let Some(attached) = self.streams.get_mut(&stream_id) {
            if let Some(event) = Event::of(notification, seq, frame) {
                attached.push(event);
            }
            attached.told();
        }
        if is_last {
            self.streams.remove(&stream_id);
        }
    }

    fn reset(&mut self, stream_id: &str, from: u64) {
        if let Some(attached) = self.streams.get_mut(stream_id) {
            attached.last_seq = from.saturating_sub(1);
            attached.push(Event::Reset);
        }
    }

    /// Whether the events `from..=seq` are the stream's next ones; if so, they count as received.
    fn advance(&mut self, stream_id: &str, from: u64, seq: u64) -> bool {
        let Some(attached) = self.streams.get_mut(stream_id) else {
            return false;
        };
        if from == attached.last_seq + 1 {
            attached.advance(seq);
            return true;
        }
        if from > attached.last_seq {
            self.fetch_missing(stream_id);
        }
        false
    }

    /// Subscribe again to get missing events. The protocol promises that none are missing (section 5).
    fn fetch_missing(&mut self, stream_id: &str) {
        let is_asked = self.requests.awaited().any(
            |(awaited, _)| matches!(awaited, Awaited::Reattach { stream_id: asked } if asked == stream_id),
        );
        let Some(attached) = self.streams.get_mut(stream_id).filter(|_| !is_asked) else {
            return;
        };
        attached.gaps += 1;
        if attached.gaps <= GAPS_MAX {
            self.subscribe(stream_id.to_owned());
        } else if let Some(attached) = self.streams.remove(stream_id) {
            let fault = format!("the server leaves out events of stream {stream_id}");
            attached.inbox.fail(Error::Protocol(fault));
        }
    }

    /// The connection has ended for good: fail all streams and requests with this error.
    pub(super) fn fail(&mut self, error: &Error) {
        for attached in std::mem::take(&mut self.streams).into_values() {
            attached.inbox.fail(error.clone());
        }
        for request in self.requests.take_all() {
            self.settle(request.awaited, Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
