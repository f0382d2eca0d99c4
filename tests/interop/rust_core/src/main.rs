//! The crate from a command line, for people and for tests: each command asks a running sidecar, and prints one line
//! of JSON for whatever comes.
//!
//! ```text
//! rust_core ask URL QUESTION…          all questions at once, over one socket
//! rust_core cancel URL QUESTION        cancelled after the first text
//! rust_core leave URL QUESTION         dropped after the first text
//! rust_core detach URL QUESTION        let go of after the first text, then resumed, and read to the end
//! rust_core resume URL STREAM_ID [AFTER]
//! rust_core refused URL QUESTION STREAM_ID  asked for before there is such a stream, begun, asked for wrongly, read
//! rust_core beside URL QUESTION BYTES  with a request of so many bytes beside it
//! rust_core beside-deletion URL QUESTION  with a request to delete all sessions beside it, and a ping after both
//! rust_core lists URL COUNT            the list of sessions, so often at once
//! rust_core events URL QUESTION [SESSION_ID]  event by event, those of a newer server too
//! rust_core call URL QUESTION TOOL     asked with a tool: the calls, and the message to send back with their results
//! rust_core run URL QUESTION [PERSON [SESSION_ID]]  its calls run here, as far as the person of weather.rs agrees
//! rust_core run-detach URL QUESTION    let go of once a call runs
//! rust_core take URL STREAM_ID         so do those of a stream that is there
//! rust_core follow URL STREAM_ID       the same over HTTP, over as many connections as it takes
//! rust_core rest URL QUESTION          over HTTP: whole, as events, cancelled
//! rust_core start PROGRAM QUESTION     of a sidecar that this program starts, and stops behind the answer
//! rust_core start-abort PROGRAM        a sidecar that this program starts, and crashes
//! rust_core start-drop PROGRAM         one that it drops before it is ready, and one that it drops once it is
//! ```
//!
//! `URL` is the sidecar's, such as `http://127.0.0.1:8000`; the token, where it needs one, is in `ARCHER_TOKEN`. How long
//! a request is repeated for which each connection is lost is in `ARCHER_GIVE_UP_MS`.

mod weather;

use std::error::Error;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use archer_ws::rest::{self, Rest};
use archer_ws::sidecar::{self, Sidecar};
use archer_ws::types::{
    ChatMessage, ChatRequest, ChatSendParams, MessageRole, PingParams, SessionDeleteAllParams,
    SessionListParams, StreamEnded, StreamGetParams, StreamStatus, Tool, ToolChoice,
};
use archer_ws::{ChatStream, Client, Config, Event};
use futures_util::future::{join, try_join_all};
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

/// The most tokens of an answer: small models find no end.
const MAX_TOKENS: u64 = 100;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust_core: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ask", url, questions @ ..] => ask(url, questions).await,
        ["cancel", url, question] => cancel(url, question).await,
        ["leave", url, question] => leave(url, question).await,
        ["detach", url, question] => detach(url, question).await,
        ["resume", url, stream_id] => resume(url, stream_id, 0).await,
        ["resume", url, stream_id, after] => resume(url, stream_id, after.parse()?).await,
        ["refused", url, question, stream_id] => refused(url, question, stream_id).await,
        ["beside", url, question, bytes] => beside(url, question, bytes.parse()?).await,
        ["lists", url, count] => lists(url, count.parse()?).await,
        ["beside-deletion", url, question] => beside_deletion(url, question).await,
        ["events", url, question] => events(url, asking(question)).await,
        ["events", url, question, session_id] => events(url, asking_in(question, session_id)).await,
        ["call", url, question, tool] => call(url, question, tool).await,
        ["run", url, question] => run_tools(url, asking(question), "free").await,
        ["run", url, question, person] => run_tools(url, asking(question), person).await,
        ["run", url, question, person, session_id] => {
            run_tools(url, asking_in(question, session_id), person).await
        }
        ["run-detach", url, question] => run_detached(url, question).await,
        ["take", url, stream_id] => {
            let stream = connect(url)
                .await?
                .resume_with(stream_id, 0, weather::tools("free"))
                .await?;
            show_tools(stream).await
        }
        ["follow", url, stream_id] => follow(url, stream_id).await,
        ["rest", url, question] => over_http(url, question).await,
        ["start", program, question] => start(program, question).await,
        ["start-abort", program] => {
            started(program).await?;
            std::process::abort()
        }
        ["start-drop", program] => start_and_drop(program).await,
        _ => Err("see the commands at the top of main.rs".into()),
    }
}

async fn connect(url: &str) -> Result<Client, Failure> {
    let mut config = Config::new(format!("{}/api/v1/ws", url.replacen("http", "ws", 1)));
    config.token = std::env::var("ARCHER_TOKEN").ok();
    config.backoff_min = Duration::from_millis(10); // the server is on this machine
    if let Ok(ms) = std::env::var("ARCHER_GIVE_UP_MS") {
        config.give_up_after = Duration::from_millis(ms.parse()?);
        config.backoff_max = config.backoff_min;
    }
    Ok(Client::connect(config).await?)
}

async fn started(program: &str) -> Result<Sidecar, Failure> {
    let sidecar = Sidecar::start(sidecar::command(program)).await?;
    let ready = sidecar.ready();
    tell(&json!({"url": ready.url, "model": ready.model, "provider_ready": ready.provider_ready}));
    Ok(sidecar)
}

/// Drops both, and waits until its standard input ends: what ends them is not this program's end.
async fn start_and_drop(program: &str) -> Result<(), Failure> {
    let begun = pin!(Sidecar::start(sidecar::command(program))).now_or_never();
    tell(&json!({"dropped": "begun", "was_ready": begun.is_some()}));
    drop(started(program).await?);
    tell(&json!({"dropped": "ready"}));
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

async fn start(program: &str, question: &str) -> Result<(), Failure> {
    let sidecar = started(program).await?;
    let client = Client::connect(sidecar.config()).await?;
    let (text, ended) = client.send(asking(question)).await?.finish().await?;
    tell_end(question, &text, &ended);
    drop(client);
    tell(&json!({"exit": sidecar.stop().await?.code()}));
    Ok(())
}

async fn ask(url: &str, questions: &[&str]) -> Result<(), Failure> {
    let client = connect(url).await?;
    let streams = try_join_all(
        questions
            .iter()
            .map(|question| client.send(asking(question))),
    )
    .await?;
    let reading = streams
        .into_iter()
        .zip(questions)
        .map(async |(stream, question)| {
            let (provider, model) = stream.route().unwrap_or_default();
            tell(&json!({"question": question, "provider": provider, "model": model}));
            let (text, ended) = stream.finish().await?;
            tell_end(question, &text, &ended);
            Ok::<_, Failure>(())
        });
    try_join_all(reading).await?;
    Ok(())
}

async fn cancel(url: &str, question: &str) -> Result<(), Failure> {
    let client = connect(url).await?;
    let mut stream = client.send(asking(question)).await?;
    let first = first_text(&mut stream).await?;
    let answer = stream.cancel().await?;
    tell(&json!({"first": first, "outcome": serde_json::to_value(&answer)?["outcome"]}));
    let (rest, ended) = stream.finish().await?;
    tell_end(question, &format!("{first}{rest}"), &ended);
    Ok(())
}

async fn leave(url: &str, question: &str) -> Result<(), Failure> {
    let client = connect(url).await?;
    let mut stream = client.send(asking(question)).await?;
    let first = first_text(&mut stream).await?;
    let stream_id = stream.stream_id().to_owned();
    drop(stream);
    let (text, ended) = client.resume(&stream_id, 0).await?.finish().await?;
    tell(&json!({"first": first}));
    tell_end(question, &text, &ended);
    Ok(())
}

async fn detach(url: &str, question: &str) -> Result<(), Failure> {
    let client = connect(url).await?;
    let mut stream = client.send(asking(question)).await?;
    tell(&json!({"first": first_text(&mut stream).await?}));
    let stream_id = stream.stream_id().to_owned();
    stream.detach();
    let state = client.call(StreamGetParams::new(&stream_id)).await;
    tell(&json!({"status": state?.status}));
    let (text, ended) = client.resume(&stream_id, 0).await?.finish().await?;
    tell_end(question, &text, &ended);
    Ok(())
}

async fn resume(url: &str, stream_id: &str, after: u64) -> Result<(), Failure> {
    let (text, ended) = connect(url)
        .await?
        .resume(stream_id, after)
        .await?
        .finish()
        .await?;
    tell_end(stream_id, &text, &ended);
    Ok(())
}

async fn refused(url: &str, question: &str, stream_id: &str) -> Result<(), Failure> {
    let client = connect(url).await?;
    tell_refusal(client.resume(stream_id, 0).await);
    let request = ChatSendParams {
        stream_id: Some(stream_id.into()),
        ..asking(question)
    };
    let mut stream = client.send(request.clone()).await?;
    first_text(&mut stream).await?;
    stream.detach();
    tell_refusal(client.resume(stream_id, 1_000_000).await);
    let other = ChatSendParams {
        temperature: Some(0.5),
        ..request
    };
    tell_refusal(client.send(other).await);
    // Given up before there is a response.
    drop(client.resume(stream_id, 0).now_or_never());
    let state = client.call(StreamGetParams::new(stream_id)).await?;
    tell(&json!({"status": state.status}));
    let (text, ended) = client.resume(stream_id, 0).await?.finish().await?;
    tell_end(question, &text, &ended);
    Ok(())
}

async fn beside(url: &str, question: &str, bytes: usize) -> Result<(), Failure> {
    let client = connect(url).await?;
    let mut stream = client.send(asking(question)).await?;
    let first = first_text(&mut stream).await?;
    tell_refusal(client.send(asking(&"x".repeat(bytes))).await);
    let (rest, ended) = stream.finish().await?;
    tell_end(question, &format!("{first}{rest}"), &ended);
    Ok(())
}

async fn lists(url: &str, count: usize) -> Result<(), Failure> {
    let client = connect(url).await?;
    let asking = (0..count).map(|_| client.call(SessionListParams::default()));
    let listed = try_join_all(asking).await?;
    tell(&json!({"lists": listed.len()}));
    Ok(())
}

async fn beside_deletion(url: &str, question: &str) -> Result<(), Failure> {
    let client = connect(url).await?;
    let asking = async { client.send(asking(question)).await?.finish().await };
    let deleting = client.call(SessionDeleteAllParams::new(true));
    let (deleted, said) = join(deleting, asking).await;
    tell(&json!({"deleted": deleted.map(|_| true).map_err(|error| error.to_string())}));
    tell(&json!({"said": said.map(|(text, _)| text).map_err(|error| error.to_string())}));
    client.call(PingParams::default()).await?;
    tell(&json!({"ping": true}));
    Ok(())
}

fn tell_refusal(outcome: Result<ChatStream, archer_ws::Error>) {
    tell(&match outcome {
        Err(archer_ws::Error::Refused(info)) => json!({"refused": info.kind}),
        other => json!({"not_refused": format!("{other:?}")}),
    });
}

async fn events(url: &str, params: ChatSendParams) -> Result<(), Failure> {
    let mut stream = connect(url).await?.send(params).await?;
    while let Some(event) = stream.next().await {
        tell(&match event? {
            Event::Content(text) => json!({"content": text}),
            Event::Reasoning(text) => json!({"reasoning": text}),
            Event::Arguments(it) => {
                json!({"arguments": it.arguments, "call_id": it.call_id, "name": it.name})
            }
            Event::ToolCall(it) => json!({"tool_call": it}),
            Event::Unknown(it) => json!({"unknown": it.method, "seq": it.seq, "params": it.params}),
            Event::Ended(ended) => json!({"ended": ended.status}),
            other => json!({"event": format!("{other:?}")}),
        });
    }
    Ok(())
}

async fn call(url: &str, question: &str, tool: &str) -> Result<(), Failure> {
    let request = ChatSendParams {
        tools: Some(vec![Tool::new(tool)]),
        tool_choice: Some(ToolChoice::Required),
        ..asking(question)
    };
    let answer = connect(url).await?.send(request).await?.answer().await?;
    for call in &answer.tool_calls {
        tell(&json!({"tool_call": call}));
    }
    tell(&json!({"message": answer.message()}));
    Ok(())
}

async fn run_tools(url: &str, params: ChatSendParams, person: &str) -> Result<(), Failure> {
    let client = connect(url).await?;
    show_tools(client.send_with(params, weather::tools(person)).await?).await
}

async fn run_detached(url: &str, question: &str) -> Result<(), Failure> {
    let client = connect(url).await?;
    let mut stream = client
        .send_with(asking(question), weather::tools("free"))
        .await?;
    while let Some(event) = stream.next().await {
        if let Event::ToolUpdate(it) = event? {
            stream.detach();
            let mut state = client.call(StreamGetParams::new(&it.stream_id)).await?;
            while state.status == StreamStatus::Waiting {
                state = client.call(StreamGetParams::new(&it.stream_id)).await?;
            }
            break;
        }
    }
    Ok(())
}

async fn show_tools(mut stream: ChatStream) -> Result<(), Failure> {
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event? {
            Event::Content(piece) => text.push_str(&piece),
            Event::Step(it) => {
                tell(&json!({"step": it.step, "before": text}));
                text.clear();
            }
            Event::ToolCall(it) => tell(&json!({"call": it.call_id})),
            Event::ToolResult(it) => tell(&json!({"result": it.call_id, "status": it.status})),
            Event::Ended(it) => tell_text(stream.stream_id(), &text, &it.status, it.text_bytes),
            _ => {}
        }
    }
    Ok(())
}

async fn follow(url: &str, stream_id: &str) -> Result<(), Failure> {
    let rest = Rest::new(url, std::env::var("ARCHER_TOKEN").ok());
    let (mut text, mut seen, mut seen_before) = (String::new(), 0, None);
    while seen_before != Some(seen) {
        seen_before = Some(seen);
        let mut events = pin!(rest.events(stream_id, seen).await?);
        // An error here is a connection that broke: what it did not bring is asked for.
        while let Some(Ok(event)) = events.next().await {
            seen = event.id();
            match event {
                rest::Event::Text { text: piece, .. } => {
                    if piece.reset == Some(true) {
                        text.clear();
                    }
                    text.push_str(&piece.content);
                }
                rest::Event::ToolCall { call, .. } => tell(&json!({"tool_call": call})),
                rest::Event::Ended { ended, .. } => {
                    tell_text(stream_id, &text, &ended.status, ended.text_bytes);
                    return Ok(());
                }
                rest::Event::Other { id, name, .. } => tell(&json!({"event": name, "id": id})),
                _ => {}
            }
        }
    }
    Err("the stream brings nothing more, and no end".into())
}

async fn over_http(url: &str, question: &str) -> Result<(), Failure> {
    let rest = Rest::new(url, std::env::var("ARCHER_TOKEN").ok());
    let whole = rest.chat(&plainly(question, None)).await?;
    tell(&json!({"content": whole.content, "provider": whole.provider}));

    let stream_id = format!("rest-{}", fastrand::u64(..));
    let request = plainly(question, Some(stream_id.clone()));
    let mut events = pin!(rest.stream(&request).await?);
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event? {
            rest::Event::Text { text: piece, .. } => text.push_str(&piece.content),
            rest::Event::Ended { ended, .. } => {
                tell_text(question, &text, &ended.status, ended.text_bytes)
            }
            rest::Event::Other { id, name, .. } => tell(&json!({"event": name, "id": id})),
            _ => {}
        }
    }
    let mut again = pin!(rest.events(&stream_id, 0).await?);
    let mut replayed = String::new();
    while let Some(event) = again.next().await {
        if let rest::Event::Text { text: piece, .. } = event? {
            replayed.push_str(&piece.content);
        }
    }
    let cancelled = rest.cancel(&stream_id).await?;
    tell(&json!({"replayed": replayed, "outcome": cancelled.outcome}));
    Ok(())
}

async fn first_text(stream: &mut ChatStream) -> Result<String, Failure> {
    while let Some(event) = stream.next().await {
        match event? {
            Event::Content(text) => return Ok(text),
            Event::Ended(ended) => {
                return Err(format!("it ended before any text: {:?}", ended.status).into());
            }
            _ => {}
        }
    }
    Err("no text came".into())
}

fn asking(question: &str) -> ChatSendParams {
    ChatSendParams {
        max_tokens: Some(MAX_TOKENS),
        ..ChatSendParams::new(vec![user(question)])
    }
}

fn asking_in(question: &str, session_id: &str) -> ChatSendParams {
    ChatSendParams {
        session_id: Some(session_id.into()),
        ..asking(question)
    }
}

fn plainly(question: &str, stream_id: Option<String>) -> ChatRequest {
    ChatRequest {
        max_tokens: Some(MAX_TOKENS),
        stream_id,
        ..ChatRequest::new(vec![user(question)])
    }
}

fn user(text: &str) -> ChatMessage {
    ChatMessage::new(MessageRole::User, text)
}

fn tell_end(label: &str, text: &str, ended: &StreamEnded) {
    tell_text(label, text, &ended.status, ended.text_bytes);
}

fn tell_text(label: &str, text: &str, status: &StreamStatus, text_bytes: u64) {
    tell(&json!({"ended": label, "status": status, "text_bytes": text_bytes, "text": text}));
}

fn tell(line: &Value) {
    println!("{line}");
}
