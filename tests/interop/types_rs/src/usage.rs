//! How a client writes requests and reads what comes.

use crate::archer::{
    CallError, CallState, CancelOutcome, ChatMessage, ChatSendParams, ChatSendResult, Content,
    ErrorKind, GivenStatus, InitializeParams, MessageRole, NamedTool, Notification, OnBusy,
    OnToolCall, Part, Request, RequestId, ServerMessage, SessionListParams, StreamCancelParams,
    StreamStatus, StreamSteerParams, StreamSubscribeParams, TextPart, Tool, ToolApproveParams,
    ToolCall, ToolChoice, ToolClaimParams, ToolOutcomeKind, ToolResultParams, PROTOCOL_VERSION,
};

pub fn check() {
    requests_are_written_as_the_server_takes_them();
    tools_and_parts_are_written_as_the_server_takes_them();
    what_is_said_of_calls_is_written_as_the_server_takes_it();
    parts_of_tomorrow_are_kept();
    results_are_read_by_the_type_of_their_params();
    errors_are_told();
    notifications_are_told_apart();
    whatever_has_a_number_is_an_event();
}

fn written<P: crate::archer::Method>(params: P) -> String {
    serde_json::to_string(&Request::new(7, params)).expect("JSON")
}

fn requests_are_written_as_the_server_takes_them() {
    let request = ChatSendParams {
        on_busy: Some(OnBusy::Interrupt),
        ..ChatSendParams::new(vec![ChatMessage::new(MessageRole::User, "Why?")])
    };
    assert_eq!(
        written(request),
        r#"{"jsonrpc":"2.0","id":7,"method":"chat/send","params":{"messages":[{"role":"user","content":"Why?"}],"stream":true,"on_busy":"interrupt"}}"#
    );
    assert!(written(InitializeParams::new(PROTOCOL_VERSION))
        .contains(r#"{"protocol_version":1,"coalesce_ms":0}"#));
    assert!(written(SessionListParams::default()).contains(r#"{"limit":50}"#));
    let subscribe = StreamSubscribeParams {
        after: 3,
        ..StreamSubscribeParams::new("sky-1")
    };
    assert!(written(subscribe).contains(r#"{"stream_id":"sky-1","after":3}"#));
    assert_eq!(
        serde_json::to_string(&RequestId::from("a")).expect("JSON"),
        r#""a""#
    );
}

fn tools_and_parts_are_written_as_the_server_takes_them() {
    let request = ChatSendParams {
        tools: Some(vec![Tool::new("get_weather")]),
        tool_choice: Some(NamedTool::new("get_weather").into()),
        ..ChatSendParams::new(vec![
            ChatMessage::new(
                MessageRole::User,
                vec![Part::Text(TextPart::new("Rain in Oslo?"))],
            ),
            ChatMessage {
                tool_calls: Some(vec![ToolCall::new("c1", "get_weather")]),
                ..ChatMessage::new(MessageRole::Assistant, "")
            },
            ChatMessage {
                call_id: Some("c1".into()),
                ..ChatMessage::new(MessageRole::Tool, "yes")
            },
        ])
    };
    assert_eq!(
        serde_json::to_string(&request).expect("JSON"),
        concat!(
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Rain in Oslo?"}]},"#,
            r#"{"role":"assistant","content":"","tool_calls":[{"call_id":"c1","name":"get_weather","arguments":"{}"}]},"#,
            r#"{"role":"tool","content":"yes","call_id":"c1"}],"stream":true,"#,
            r#""tools":[{"name":"get_weather"}],"tool_choice":{"name":"get_weather"}}"#
        )
    );
    assert_eq!(
        serde_json::to_string(&ToolChoice::Required).expect("JSON"),
        r#""required""#
    );
}

fn what_is_said_of_calls_is_written_as_the_server_takes_it() {
    let request = ChatSendParams {
        on_tool_call: Some(OnToolCall::Wait),
        tool_timeout_s: Some(30.0),
        ..ChatSendParams::new(vec![])
    };
    assert!(written(request).contains(r#""on_tool_call":"wait","tool_timeout_s":30.0"#));
    assert!(written(ToolApproveParams::new(true, "sky-2", "c1"))
        .contains(r#""params":{"approved":true,"stream_id":"sky-2","call_id":"c1"}"#));
    assert!(written(ToolClaimParams::new("sky-2", "c1", "tab-1"))
        .contains(r#""params":{"stream_id":"sky-2","call_id":"c1","claim":"tab-1"}"#));
    let result = ToolResultParams {
        status: Some(GivenStatus::Error),
        claim: Some("tab-1".into()),
        ..ToolResultParams::new("no such city", "sky-2", "c1")
    };
    assert!(written(result)
        .contains(r#"{"content":"no such city","status":"error","claim":"tab-1","stream_id""#));
    assert!(written(StreamSteerParams::new("s1", "In Celsius.", "sky-2"))
        .contains(r#""method":"stream/steer","params":{"message_id":"s1","content":"In Celsius.""#));
    let taken = response(r#"{"jsonrpc":"2.0","id":7,"result":{"outcome":"taken"}}"#);
    let answer = taken.result::<ToolClaimParams>().expect("an answer");
    assert_eq!((answer.outcome, answer.status), (ToolOutcomeKind::Taken, None));
    match notification(
        r#"{"jsonrpc":"2.0","method":"stream/tool_update","params":{"stream_id":"a","seq":4,"call_id":"c1","state":"running"}}"#,
    ) {
        Notification::StreamToolUpdate(it) => assert_eq!(it.state, CallState::Running),
        other => panic!("{other:?}"),
    }
}

fn parts_of_tomorrow_are_kept() {
    let text = r#"[{"type":"text","text":"a"},{"frames":[1],"type":"video"}]"#;
    match serde_json::from_str(text).expect("content") {
        Content::Parts(parts) => {
            assert!(matches!(&parts[0], Part::Text(part) if part.text == "a"));
            assert!(matches!(&parts[1], Part::Unknown(video) if video["frames"][0] == 1));
            assert_eq!(
                serde_json::to_string(&Content::from(parts)).expect("JSON"),
                text
            );
        }
        other => panic!("{other:?}"),
    }
}

fn response(text: &str) -> crate::archer::Response {
    match serde_json::from_str(text).expect("a message") {
        ServerMessage::Response(response) => response,
        ServerMessage::Notification(other) => panic!("{other:?}"),
    }
}

fn results_are_read_by_the_type_of_their_params() {
    let answer = response(
        r#"{"jsonrpc":"2.0","id":7,"result":{"outcome":"cancelling","status":"cancelling"}}"#,
    );
    assert_eq!(answer.id, Some(RequestId::Number(7)));
    let result = answer.result::<StreamCancelParams>().expect("a result");
    assert_eq!(
        (result.outcome, result.status),
        (CancelOutcome::Cancelling, Some(StreamStatus::Cancelling))
    );
    let wrong: Result<ChatSendResult, CallError> =
        response(r#"{"id":"7","result":{}}"#).result::<ChatSendParams>();
    assert!(matches!(wrong, Err(CallError::Malformed(_))));
}

fn errors_are_told() {
    let refused = response(
        r#"{"id":null,"error":{"code":-32099,"message":"m","data":{"kind":"novelty","message":"m","hint":"h","retryable":false,"request_id":"r"}}}"#,
    );
    assert_eq!(refused.id, None);
    match refused.result::<ChatSendParams>() {
        Err(CallError::Refused(error)) => {
            assert_eq!(error.data.kind, ErrorKind::Unknown("novelty".into()));
            assert_eq!(error.to_string(), "novelty: m (h)");
        }
        other => panic!("{other:?}"),
    }
    assert!(serde_json::from_str::<ServerMessage>(r#"{"jsonrpc":"2.0","id":1}"#).is_err());
}

fn notifications_are_told_apart() {
    let text = r#"{"jsonrpc":"2.0","method":"stream/ended","params":{"stream_id":"a","seq":2,"status":"melted","text_bytes":3,"novelty":1}}"#;
    match serde_json::from_str(text).expect("a message") {
        ServerMessage::Notification(Notification::StreamEnded(ended)) => {
            assert_eq!(ended.status, StreamStatus::Unknown("melted".into()));
            assert_eq!(ended.status.to_string(), "melted");
        }
        other => panic!("{other:?}"),
    }
    let about =
        notification(r#"{"method":"stream/whispered","params":{"stream_id":"a","volume":0.1}}"#);
    assert_eq!((about.stream_id(), about.numbers()), (Some("a"), None));
    assert!(matches!(about, Notification::Unknown { method, .. } if method == "stream/whispered"));
}

fn whatever_has_a_number_is_an_event() {
    for (text, numbers) in [
        (
            r#""stream/progress","params":{"stream_id":"a","seq":1,"phase":"dreaming"}"#,
            Some((1, 1)),
        ),
        (
            r#""stream/delta","params":{"stream_id":"a","from":3,"seq":5,"arguments":"{}"}"#,
            Some((3, 5)),
        ),
        (
            r#""stream/weather","params":{"stream_id":"a","seq":2,"sky":"blue"}"#,
            Some((2, 2)),
        ),
        (
            r#""tomorrow/weather","params":{"stream_id":"a","from":4,"seq":9}"#,
            Some((4, 9)),
        ),
        (
            r#""tomorrow/weather","params":{"stream_id":"a","from":"noon","seq":9}"#,
            Some((9, 9)),
        ),
        (r#""tomorrow/weather","params":{"seq":9}"#, None),
        (r#""tomorrow/weather","params":[9]"#, None),
        (r#""$/heartbeat""#, None),
    ] {
        assert_eq!(
            notification(&format!(r#"{{"method":{text}}}"#)).numbers(),
            numbers,
            "{text}"
        );
    }
}

fn notification(text: &str) -> Notification {
    serde_json::from_str(text).expect("a notification")
}
