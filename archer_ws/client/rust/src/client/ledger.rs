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
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::types::SessionDeleteParams;

    const MINUTE: Duration = Duration::from_secs(60);

    /// What the reader of a requested stream holds.
    type Reader = (Arc<Inbox>, oneshot::Receiver<Result<Value, Error>>);

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

    fn asked_for_stream(ledger: &mut Ledger, stream_id: &str) -> Reader {
        let (reply, response) = oneshot::channel();
        let inbox = Arc::new(Inbox::default());
        let params = ChatSendParams {
            stream_id: Some(stream_id.into()),
            ..ChatSendParams::new(Vec::new())
        };
        let request = ledger.ids.request(params).unwrap();
        ledger.obey(Command::Open {
            request,
            reply,
            stream_id: stream_id.into(),
            attached: Attached::new(0, Arc::clone(&inbox), None),
        });
        (inbox, response)
    }

    fn connect(ledger: &mut Ledger, in_flight_max: u64) -> mpsc::UnboundedReceiver<Message> {
        let (outgoing, frames) = mpsc::unbounded_channel();
        ledger.connected(outgoing, in_flight_max);
        frames
    }

    fn next_of(frames: &mut mpsc::UnboundedReceiver<Message>) -> Option<String> {
        Some(frames.try_recv().ok()?.to_string())
    }

    fn id_of(request: &str) -> Value {
        serde_json::from_str::<Value>(request).unwrap()["id"].clone()
    }

    fn answer(ledger: &mut Ledger, request: &str) {
        let id = id_of(request);
        let response = serde_json::json!({"jsonrpc": "2.0", "id": id, "result": {"head_seq": 0}});
        assert!(ledger.take(&response.to_string()).unwrap());
    }

    /// Refuse a request, which may succeed if it is sent again now.
    fn refuse_for_the_moment(ledger: &mut Ledger, request: &str) {
        let data = serde_json::json!({
            "kind": "storage_unavailable",
            "message": "the stored streams are not loaded yet",
            "retryable": true,
            "retry_after_ms": 0,
            "request_id": "r",
        });
        let error = serde_json::json!({"code": -32000, "message": data["message"], "data": data});
        let response = serde_json::json!({"jsonrpc": "2.0", "id": id_of(request), "error": error});
        assert!(!ledger.take(&response.to_string()).unwrap());
    }

    /// Give a response to the next request; returns the request.
    fn answer_next(ledger: &mut Ledger, frames: &mut mpsc::UnboundedReceiver<Message>) -> String {
        let request = next_of(frames).unwrap();
        answer(ledger, &request);
        request
    }

    #[test]
    fn a_request_that_was_given_up_without_a_connection_is_not_sent_on_the_next() {
        let mut ledger = Ledger::new(Ids::new(), Duration::ZERO);
        let mut first = connect(&mut ledger, 64);
        let sent = asked_to_delete(&mut ledger, "sent");
        assert!(next_of(&mut first).unwrap().contains("sent"));
        ledger.disconnected();
        let unsent = asked_to_delete(&mut ledger, "unsent");
        let _awaited = asked_to_delete(&mut ledger, "awaited");
        drop((sent, unsent));
        let mut second = connect(&mut ledger, 64);
        assert!(next_of(&mut second).unwrap().contains("awaited"));
        assert_eq!(next_of(&mut second), None);
    }

    #[test]
    fn the_worst_subscription_is_sent_after_the_requests_for_which_fewer_connections_were_lost() {
        let mut ledger = Ledger::new(Ids::new(), MINUTE);
        let _reader = asked_for_stream(&mut ledger, "stream");
        let mut frames = connect(&mut ledger, 64);
        answer_next(&mut ledger, &mut frames);
        let mut deleted = None;
        for losses in 0..5 {
            ledger.disconnected();
            if losses == 3 {
                deleted = Some(asked_to_delete(&mut ledger, "session"));
            }
            connect(&mut ledger, 64);
        }
        ledger.disconnected();
        frames = connect(&mut ledger, 64);
        assert!(deleted.is_some());
        assert!(answer_next(&mut ledger, &mut frames).contains("session/delete"));
        assert!(answer_next(&mut ledger, &mut frames).contains("stream/subscribe"));
    }

    #[test]
    fn streams_with_which_connections_were_lost_again_are_attached_after_the_others() {
        let mut ledger = Ledger::new(Ids::new(), MINUTE);
        let mut frames = connect(&mut ledger, 64);
        let _readers = ["one", "two"].map(|stream_id| {
            let reader = asked_for_stream(&mut ledger, stream_id);
            answer_next(&mut ledger, &mut frames);
            reader
        });
        for _ in 0..2 {
            ledger.disconnected();
            frames = connect(&mut ledger, 64);
            assert!(next_of(&mut frames).unwrap().contains("\"one\""));
            assert!(answer_next(&mut ledger, &mut frames).contains("\"two\""));
        }
        ledger.disconnected();
        frames = connect(&mut ledger, 64);
        assert!(next_of(&mut frames).unwrap().contains("\"two\""));
        assert!(next_of(&mut frames).unwrap().contains("\"one\""));
    }

    /// There was a connection, on which this stream was attached.
    fn attached(ledger: &mut Ledger) -> Reader {
        let mut frames = connect(ledger, 64);
        let reader = asked_for_stream(ledger, "stream");
        answer_next(ledger, &mut frames);
        ledger.disconnected();
        reader
    }

    /// There were connections, all of which were lost before the response to the chat. The ledger gives up at once.
    fn unanswered(ledger: &mut Ledger) -> Reader {
        let reader = asked_for_stream(ledger, "stream");
        for _ in 0..5 {
            let mut frames = connect(ledger, 64);
            assert!(next_of(&mut frames).unwrap().contains("chat/send"));
            ledger.disconnected();
        }
        reader
    }

    /// Both are followed by a subscription on the next connection.
    const BEGINNINGS: [fn(&mut Ledger) -> Reader; 2] = [attached, unanswered];

    /// Take the only frame so far, which has to be a subscription.
    fn subscription(frames: &mut mpsc::UnboundedReceiver<Message>) -> String {
        let frame = next_of(frames).unwrap();
        assert!(frame.contains("stream/subscribe"));
        assert_eq!(next_of(frames), None);
        frame
    }

    /// Lose some connections before the response to a subscription, and connect.
    fn connect_after_losses(ledger: &mut Ledger) -> mpsc::UnboundedReceiver<Message> {
        for _ in 0..3 {
            subscription(&mut connect(ledger, 64));
            ledger.disconnected();
        }
        connect(ledger, 64)
    }

    #[test]
    fn the_losses_of_a_stream_end_when_it_is_attached_again() {
        let mut ledger = Ledger::new(Ids::new(), Duration::ZERO);
        let _reader = attached(&mut ledger);
        for _ in 0..2 {
            let mut frames = connect_after_losses(&mut ledger);
            answer(&mut ledger, &subscription(&mut frames));
            ledger.disconnected();
        }
    }

    #[test]
    fn the_losses_of_a_stream_end_when_it_is_refused_for_the_moment() {
        for begin in BEGINNINGS {
            let mut ledger = Ledger::new(Ids::new(), Duration::ZERO);
            let _reader = begin(&mut ledger);
            for _ in 0..2 {
                let mut frames = connect_after_losses(&mut ledger);
                refuse_for_the_moment(&mut ledger, &subscription(&mut frames));
                ledger.ask_again();
                subscription(&mut frames);
                ledger.disconnected();
            }
        }
    }

    #[test]
    fn a_stream_that_was_refused_for_the_moment_is_asked_for_once_on_the_next_connection() {
        for begin in BEGINNINGS {
            let mut ledger = Ledger::new(Ids::new(), Duration::ZERO);
            let _reader = begin(&mut ledger);
            let mut frames = connect(&mut ledger, 64);
            refuse_for_the_moment(&mut ledger, &subscription(&mut frames));
            ledger.disconnected();
            frames = connect(&mut ledger, 64);
            ledger.ask_again();
            subscription(&mut frames);
        }
    }

    #[test]
    fn a_stream_that_was_refused_for_the_moment_and_let_go_is_not_asked_for_again() {
        for begin in BEGINNINGS {
            let mut ledger = Ledger::new(Ids::new(), Duration::ZERO);
            let (inbox, _response) = begin(&mut ledger);
            let mut frames = connect(&mut ledger, 64);
            refuse_for_the_moment(&mut ledger, &subscription(&mut frames));
            ledger.obey(Command::LetGo {
                stream_id: "stream".into(),
                inbox,
                cancel: true,
            });
            ledger.ask_again();
            assert!(next_of(&mut frames).unwrap().contains("stream/cancel"));
            assert_eq!(next_of(&mut frames), None);
        }
    }

    #[test]
    fn a_chat_that_was_given_up_before_it_was_sent_is_not_sent() {
        let mut ledger = Ledger::new(Ids::new(), MINUTE);
        let mut frames = connect(&mut ledger, 1);
        let _deleted = asked_to_delete(&mut ledger, "session");
        let (inbox, response) = asked_for_stream(&mut ledger, "stream");
        drop(response);
        ledger.obey(Command::LetGo {
            stream_id: "stream".into(),
            inbox,
            cancel: true,
        });
        while let Some(frame) = next_of(&mut frames) {
            assert!(!frame.contains("chat/send"));
            answer(&mut ledger, &frame);
        }
    }

    #[test]
    fn a_stream_that_was_let_go_while_its_subscription_waited_is_not_subscribed_to() {
        let mut ledger = Ledger::new(Ids::new(), MINUTE);
        let mut frames = connect(&mut ledger, 64);
        let mut readers = HashMap::new();
        for stream_id in ["one", "two"] {
            readers.insert(stream_id, asked_for_stream(&mut ledger, stream_id));
            answer_next(&mut ledger, &mut frames);
        }
        for _ in 0..2 {
            ledger.disconnected();
            connect(&mut ledger, 64);
        }
        ledger.disconnected();
        frames = connect(&mut ledger, 64);
        let sent = next_of(&mut frames).unwrap();
        let waiting = if sent.contains("\"one\"") {
            "two"
        } else {
            "one"
        };
        let (inbox, _) = readers.remove(waiting).unwrap();
        ledger.obey(Command::LetGo {
            stream_id: waiting.into(),
            inbox,
            cancel: false,
        });
        assert!(next_of(&mut frames).unwrap().contains("stream/unsubscribe"));
        answer(&mut ledger, &sent);
        assert_eq!(next_of(&mut frames), None);
    }
}
