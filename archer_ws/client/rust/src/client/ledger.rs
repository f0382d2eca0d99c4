//! The requests without a response and the attached streams, and how responses, events and lost connections change
//! them.
//!
//! Owned by the connection's task; does no I/O itself. While there is a connection, frames are sent through `outgoing`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::runner::Feed;
use super::stream::{Event, Inbox};
use super::{Error, Ids, Numbered};
use crate::types::{
    Method, Notification, RequestId, Response, ServerMessage, StreamCancelParams,
    StreamSubscribeParams, StreamUnsubscribeParams,
};

/// After a gap in the events the stream is subscribed to again. After more than this many gaps in a row it fails.
const GAPS_MAX: u32 = 3;

type Reply = oneshot::Sender<Result<Value, Error>>;

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

/// What to do with a response.
enum Awaited {
    Reply(Reply),
    Attach {
        reply: Reply,
        stream_id: String,
        attached: Attached,
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
}

struct OpenRequest {
    text: String,
    awaited: Awaited,
}

/// An attached stream: where its events go, and the number of the last one delivered.
#[derive(Debug)]
pub(super) struct Attached {
    last_seq: u64,
    /// Gaps since the last event that was in order.
    gaps: u32,
    inbox: Arc<Inbox>,
    /// To the task that runs its calls, if it has tools.
    feed: Option<Feed>,
}

impl Attached {
    /// Deliver the events after `after` to the inbox.
    pub(super) fn new(after: u64, inbox: Arc<Inbox>, feed: Option<Feed>) -> Self {
        Self {
            last_seq: after,
            gaps: 0,
            inbox,
            feed,
        }
    }

    /// The server has attached the stream with this result, and sends its events from now on.
    fn begins(&mut self, result: &Value) {
        if let Some(feed) = &mut self.feed {
            feed.attached(result["head_seq"].as_u64().unwrap_or(0), self.last_seq);
        }
    }

    fn push(&mut self, event: Event) {
        if let Some(feed) = &mut self.feed {
            feed.told(&event);
        }
        self.inbox.push(event);
    }

    /// The events up to this one were received.
    fn advance(&mut self, seq: u64) {
        self.last_seq = seq;
        self.gaps = 0;
    }

    /// The events up to `last_seq` were delivered.
    fn told(&mut self) {
        if let Some(feed) = &mut self.feed {
            feed.passed(self.last_seq);
        }
    }
}

pub(super) struct Ledger {
    ids: Ids,
    /// By request id, that is, in the order in which they were made.
    open_requests: BTreeMap<i64, OpenRequest>,
    streams: HashMap<String, Attached>,
    /// Streams whose subscription was refused for the moment, and when to ask again.
    postponed: Vec<(Instant, String)>,
    outgoing: Option<mpsc::UnboundedSender<Message>>,
}

impl Ledger {
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            open_requests: BTreeMap::new(),
            streams: HashMap::new(),
            postponed: Vec::new(),
            outgoing: None,
        }
    }

    /// There is a new socket: resume each stream after its last event, then repeat the requests without a response.
    pub(super) fn connected(&mut self, outgoing: mpsc::UnboundedSender<Message>) {
        self.outgoing = Some(outgoing);
        self.postponed.clear();
        self.open_requests
            .retain(|_, request| request.awaited.outlives_connection());
        let repeated: Vec<String> = self
            .open_requests
            .values()
            .map(|request| request.text.clone())
            .collect();
        let stream_ids: Vec<String> = self.streams.keys().cloned().collect();
        for stream_id in stream_ids {
            self.subscribe(stream_id);
        }
        for text in repeated {
            self.transmit(text);
        }
    }

    /// There is no socket: requests wait for the next one.
    pub(super) fn disconnected(&mut self) {
        self.outgoing = None;
    }

    /// When to call `ask_again`, if a subscription was refused for the moment.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.postponed.iter().map(|(due, _)| *due).min()
    }

    /// Subscribe to the postponed streams that are due.
    pub(super) fn ask_again(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.postponed)
            .into_iter()
            .partition(|(due, _)| *due <= now);
        self.postponed = later;
        for (_, stream_id) in due {
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
    fn ask(&mut self, Numbered { id, text }: Numbered, awaited: Awaited) {
        self.transmit(text.clone());
        self.open_requests.insert(id, OpenRequest { text, awaited });
    }

    fn transmit(&self, text: String) {
        if let Some(outgoing) = &self.outgoing {
            let _ = outgoing.send(Message::text(text)); // on an error the writer has ended: reading reports the loss
        }
    }

    fn subscribe(&mut self, stream_id: String) {
        let Some(attached) = self.streams.get(&stream_id) else {
            return;
        };
        let params = StreamSubscribeParams {
            after: attached.last_seq,
            ..StreamSubscribeParams::new(&stream_id)
        };
        if let Ok(request) = self.ids.request(params) {
            self.ask(request, Awaited::Reattach { stream_id });
        }
    }

    /// Handle a frame from the server; returns whether it is the response to a request that succeeded.
    pub(super) fn take(&mut self, text: &str) -> Result<bool, Error> {
        match serde_json::from_str(text)? {
            ServerMessage::Response(Response {
                id: Some(RequestId::Number(id)),
                outcome,
            }) => {
                let succeeded = outcome.is_ok();
                if let Some(request) = self.open_requests.remove(&id) {
                    self.settle(request.awaited, outcome.map_err(|error| error.data.into()));
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

    fn settle(&mut self, awaited: Awaited, outcome: Result<Value, Error>) {
        match (awaited, outcome) {
            (Awaited::Reply(reply), outcome) => drop(reply.send(outcome)),
            (
                Awaited::Attach {
                    reply,
                    stream_id,
                    mut attached,
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
            (Awaited::Attach { reply, .. }, outcome) => drop(reply.send(outcome)),
            (Awaited::Reattach { stream_id }, Err(error)) => {
                if let Some(pause) = error.retry_after() {
                    // The server has not loaded its stored streams yet, for example. The stream itself is as it was.
                    self.postponed.push((Instant::now() + pause, stream_id));
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
        let is_asked = self.open_requests.values().any(
            |request| matches!(&request.awaited, Awaited::Reattach { stream_id: asked } if asked == stream_id),
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
        for request in std::mem::take(&mut self.open_requests).into_values() {
            self.settle(request.awaited, Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SessionDeleteParams;

    fn asked_to_delete(
        ledger: &mut Ledger,
        session_id: &str,
    ) -> oneshot::Receiver<Result<Value, Error>> {
        let (reply, response) = oneshot::channel();
        let request = ledger
            .ids
            .request(SessionDeleteParams::new(session_id))
            .unwrap();
        ledger.obey(Command::Call { request, reply });
        response
    }

    fn connect(ledger: &mut Ledger) -> mpsc::UnboundedReceiver<Message> {
        let (outgoing, frames) = mpsc::unbounded_channel();
        ledger.connected(outgoing);
        frames
    }

    fn next_of(frames: &mut mpsc::UnboundedReceiver<Message>) -> Option<String> {
        Some(frames.try_recv().ok()?.to_string())
    }

    #[test]
    fn a_request_that_was_given_up_without_a_connection_is_not_sent_on_the_next() {
        let mut ledger = Ledger::new(Ids::new());
        let mut first = connect(&mut ledger);
        let sent = asked_to_delete(&mut ledger, "sent");
        assert!(next_of(&mut first).unwrap().contains("sent"));
        ledger.disconnected();
        let unsent = asked_to_delete(&mut ledger, "unsent");
        let _awaited = asked_to_delete(&mut ledger, "awaited");
        drop((sent, unsent));
        let mut second = connect(&mut ledger);
        assert!(next_of(&mut second).unwrap().contains("awaited"));
        assert_eq!(next_of(&mut second), None);
    }
}
