use super::*;
use crate::types::SessionDeleteParams;

fn add(requests: &mut Requests, id: i64) {
    add_of(SessionDeleteParams::NAME, requests, id);
}

fn add_of(method: &'static str, requests: &mut Requests, id: i64) {
    let text = id.to_string();
    let request = Numbered { id, method, text };
    requests.add(request, Awaited::Nothing, Losses::default());
}

fn connect(requests: &mut Requests, in_flight_max: u64) -> mpsc::UnboundedReceiver<Message> {
    let (outgoing, frames) = mpsc::unbounded_channel();
    let ids = requests.connected(outgoing, in_flight_max);
    requests.send_all(ids);
    frames
}

/// The ids of the requests that were sent since the last call.
fn sent(frames: &mut mpsc::UnboundedReceiver<Message>) -> Vec<i64> {
    std::iter::from_fn(|| frames.try_recv().ok())
        .map(|frame| frame.to_string().parse().unwrap())
        .collect()
}

#[test]
fn of_the_requests_with_which_connections_were_lost_again_one_is_in_flight_at_a_time() {
    let mut requests = Requests::default();
    for id in 1..=3 {
        add(&mut requests, id);
    }
    for _ in 0..2 {
        assert_eq!(sent(&mut connect(&mut requests, 64)), [1, 2, 3]);
        requests.disconnected(Duration::MAX);
    }
    for id in 4..=5 {
        add(&mut requests, id);
    }
    let mut frames = connect(&mut requests, 64);
    assert_eq!(sent(&mut frames), [1, 4, 5]);
    for (answered, next) in [(4, vec![]), (1, vec![2]), (2, vec![3])] {
        requests.answered(answered);
        requests.flush();
        assert_eq!(sent(&mut frames), next);
    }
}

#[test]
fn a_request_that_was_not_sent_does_not_fail_for_the_connections_lost_meanwhile() {
    let mut requests = Requests::default();
    for id in 1..=2 {
        add(&mut requests, id);
    }
    let mut failed = Vec::new();
    for _ in 0..5 {
        assert_eq!(sent(&mut connect(&mut requests, 1)), [1]);
        let unanswered = requests.disconnected(Duration::ZERO);
        failed.extend(unanswered.into_iter().map(|request| request.text));
    }
    assert_eq!(failed, ["1"]);
    assert_eq!(sent(&mut connect(&mut requests, 1)), [2]);
}

#[test]
fn a_request_that_waited_when_the_connection_was_lost_is_sent_once_on_the_next() {
    let mut requests = Requests::default();
    for id in 1..=2 {
        add(&mut requests, id);
    }
    assert_eq!(sent(&mut connect(&mut requests, 1)), [1]);
    requests.disconnected(Duration::MAX);
    let mut frames = connect(&mut requests, 64);
    requests.flush();
    assert_eq!(sent(&mut frames), [1, 2]);
}

#[test]
fn requests_that_the_server_always_takes_do_not_wait_for_others() {
    let mut requests = Requests::default();
    for id in 1..=2 {
        add(&mut requests, id);
    }
    for (id, method) in (3..).zip(CONTROL) {
        add_of(method, &mut requests, id);
    }
    assert_eq!(sent(&mut connect(&mut requests, 1)), [1, 3, 4, 5, 6, 7, 8]);
}

fn request(id: i64) -> Numbered {
    let (method, text) = (PingParams::NAME, id.to_string());
    Numbered { id, method, text }
}

#[test]
fn postponed_requests_are_sent_when_they_are_due_in_the_order_in_which_they_were_made() {
    let mut requests = Requests::default();
    let (outgoing, mut frames) = mpsc::unbounded_channel();
    requests.connected(outgoing, 64);
    for (id, pause) in [(1, 2), (2, 1), (3, 9), (4, 1), (5, 1)] {
        requests.add(request(id), Awaited::Nothing, Losses::default());
        requests.send(id);
        assert!(frames.try_recv().is_ok());
        let answered = requests.answered(id).unwrap();
        requests.postpone(id, answered, Duration::from_secs(pause));
    }
    requests.answered(4);
    let first = requests.next_due().unwrap();
    requests.send_due(first - Duration::from_millis(1));
    assert!(frames.try_recv().is_err());
    requests.send_due(first + Duration::from_secs(2));
    for id in [1, 2, 5] {
        assert_eq!(frames.try_recv().unwrap(), Message::text(id.to_string()));
    }
    assert!(frames.try_recv().is_err());
    assert!(requests.next_due().unwrap() > first + Duration::from_secs(7));
}

#[test]
fn on_a_new_connection_postponed_requests_are_sent_once() {
    let mut requests = Requests::default();
    let (outgoing, _) = mpsc::unbounded_channel();
    requests.connected(outgoing, 64);
    requests.add(request(1), Awaited::Nothing, Losses::default());
    let refused = requests.answered(1).unwrap();
    requests.postpone(1, refused, Duration::ZERO);
    requests.disconnected(Duration::from_secs(60));
    let (outgoing, mut frames) = mpsc::unbounded_channel();
    let repeated = requests.connected(outgoing, 64);
    requests.send_all(repeated);
    assert_eq!(requests.next_due(), None);
    requests.send_due(Instant::now());
    assert!(frames.try_recv().is_ok());
    assert!(frames.try_recv().is_err());
}
