//! The task that owns the socket: it connects, sends `initialize`, sends and receives frames, and reconnects after a
//! loss. The [`Ledger`] handles what the frames say.

use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::backoff::Backoff;
use super::ledger::{Command, Ledger};
use super::{Config, Error, Ids};
use crate::types::{
    InitializeParams, InitializeResult, PROTOCOL_VERSION, PeerInfo, SUBPROTOCOL, ServerMessage,
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The connection counts as lost after two heartbeat intervals and this long without a message from the server.
const SILENCE_SLACK: Duration = Duration::from_secs(5);
/// The limit of a message, in bytes, and of a frame: servers send each message in one. One message can be a whole
/// conversation.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long closing the socket may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Why the use of a socket ended.
enum Ending {
    /// All handles were dropped.
    Unused,
    /// The connection was lost: dial again.
    Lost,
    /// An error that dialling again can't mend.
    Over(Error),
}

/// A new connection.
struct Dialled {
    socket: Socket,
    /// How long it may be silent.
    silence: Duration,
    /// How many requests the server takes at once.
    requests_max: u64,
}

impl From<Error> for Ending {
    fn from(error: Error) -> Self {
        if error.is_passing() {
            Self::Lost
        } else {
            Self::Over(error)
        }
    }
}

pub(super) struct Connection {
    config: Config,
    commands: mpsc::UnboundedReceiver<Command>,
    ids: Ids,
    ledger: Ledger,
    backoff: Backoff,
}

impl Connection {
    pub(super) fn new(
        config: Config,
        ids: Ids,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            ledger: Ledger::new(ids.clone(), config.give_up_after),
            config,
            commands,
            ids,
        }
    }

    /// Run until all handles are dropped. The result of the first attempt is sent to `connected`; if it is an error,
    /// there is no second attempt.
    pub(super) async fn run(mut self, connected: oneshot::Sender<Result<(), Error>>) {
        let ending = match self.dial().await {
            Ok(dialled) => {
                let _ = connected.send(Ok(())); // a caller that gave up has dropped its handle too
                self.serve(dialled).await
            }
            Err(error) => {
                let _ = connected.send(Err(error));
                return;
            }
        };
        if let Ending::Over(error) = self.keep(ending).await {
            self.commands.close();
            while let Ok(command) = self.commands.try_recv() {
                self.ledger.obey(command);
            }
            self.ledger.fail(&error);
        }
    }

    async fn keep(&mut self, mut ending: Ending) -> Ending {
        while matches!(ending, Ending::Lost) {
            if self.pause().await.is_break() {
                return Ending::Unused;
            }
            ending = match self.dial().await {
                Ok(dialled) => self.serve(dialled).await,
                Err(error) => error.into(),
            };
        }
        ending
    }

    /// Connect and send `initialize`.
    async fn dial(&self) -> Result<Dialled, Error> {
        timeout(self.config.connect_timeout, async {
            let mut request = self.config.url.as_str().into_client_request()?;
            request.headers_mut().insert(
                "Sec-WebSocket-Protocol",
                HeaderValue::from_static(SUBPROTOCOL),
            );
            let limits = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let (mut socket, _) = connect_async_with_config(request, Some(limits), true).await?;
            let hello = self.ids.request(InitializeParams {
                client: Some(PeerInfo::new(
                    env!("CARGO_PKG_NAME"),
                    env!("CARGO_PKG_VERSION"),
                )),
                token: self.config.token.clone(),
                ..InitializeParams::new(PROTOCOL_VERSION)
            })?;
            socket.send(Message::text(hello.text)).await?;
            let welcome = read_welcome(&mut socket, hello.id).await?;
            self.ids.limit_frames(welcome.limits.max_frame_bytes);
            let heartbeat = Duration::from_millis(welcome.heartbeat_ms);
            Ok(Dialled {
                socket,
                silence: heartbeat * 2 + SILENCE_SLACK,
                requests_max: welcome.limits.max_requests,
            })
        })
        .await
        .unwrap_or(Err(Error::TimedOut))
    }

    async fn serve(&mut self, dialled: Dialled) -> Ending {
        let Dialled {
            socket,
            silence,
            requests_max,
        } = dialled;
        let (sink, mut incoming) = socket.split();
        let (outgoing, frames) = mpsc::unbounded_channel();
        // Writing has its own task, so that reading goes on while the server's buffers are full. Otherwise client and
        // server could wait for each other for ever.
        let writer = tokio::spawn(write_all(sink, frames));
        self.ledger.connected(outgoing, requests_max);
        let ending = self.exchange(&mut incoming, silence).await;
        self.ledger.disconnected();
        if matches!(ending, Ending::Unused) {
            let _ = timeout(CLOSE_LIMIT, writer).await;
        } else {
            writer.abort();
        }
        ending
    }

    async fn exchange(&mut self, incoming: &mut SplitStream<Socket>, silence: Duration) -> Ending {
        let mut deadline = Instant::now() + silence;
        loop {
            let due = self.ledger.next_due();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.ledger.obey(command),
                    None => return Ending::Unused,
                },
                () = sleep_until(due.unwrap_or(deadline)), if due.is_some() => self.ledger.ask_again(),
                message = incoming.next() => {
                    deadline = Instant::now() + silence;
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            match self.ledger.take(&text) {
                                Ok(true) => self.backoff.reset(),
                                Ok(false) => {}
                                Err(error) => return error.into(),
                            }
                        }
                        Some(Ok(Message::Close(frame))) => return close_error(frame).into(),
                        Some(Ok(_)) => {}
                        // On the next connection the server would send it again.
                        Some(Err(tungstenite::Error::Capacity(error))) => {
                            return Ending::Over(Error::Protocol(error.to_string()));
                        }
                        Some(Err(_)) | None => return Ending::Lost,
                    }
                }
                () = sleep_until(deadline) => return Ending::Lost,
            }
        }
    }

    /// Wait before the next attempt; commands are handled meanwhile.
    async fn pause(&mut self) -> ControlFlow<()> {
        let until = Instant::now() + self.backoff.next_pause();
        loop {
            tokio::select! {
                () = sleep_until(until) => return ControlFlow::Continue(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.ledger.obey(command),
                    None => return ControlFlow::Break(()),
                },
            }
        }
    }
}

async fn read_welcome(socket: &mut Socket, hello: i64) -> Result<InitializeResult, Error> {
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) => {
                if let ServerMessage::Response(response) = serde_json::from_str(&text)?
                    && response.id == Some(hello.into())
                {
                    return Ok(response.result::<InitializeParams>()?);
                }
            }
            Message::Close(frame) => return Err(close_error(frame)),
            _ => {}
        }
    }
    Err(Error::TimedOut)
}

async fn write_all(
    mut sink: SplitSink<Socket, Message>,
    mut frames: mpsc::UnboundedReceiver<Message>,
) {
    while let Some(frame) = frames.recv().await {
        if sink.send(frame).await.is_err() {
            return; // reading fails as well, and reports the loss
        }
    }
    let _ = sink.close().await;
}

fn close_error(frame: Option<CloseFrame>) -> Error {
    match frame {
        Some(it) => Error::ClosedFor {
            code: it.code.into(),
            reason: it.reason.to_string(),
        },
        None => Error::ClosedFor {
            code: 1005,
            reason: String::new(),
        },
    }
}
