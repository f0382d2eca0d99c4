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
