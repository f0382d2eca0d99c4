//! A client of archer.v1, the protocol of the Archer AI Engine: any number of chat streams over one WebSocket. After a
//! lost connection it reconnects and resumes them, and no text is lost.
//!
//! ```no_run
//! use archer_ws::types::{ChatMessage, ChatSendParams, MessageRole};
//! use archer_ws::{Client, Config, Event};
//! use futures_util::StreamExt;
//!
//! # async fn example() -> Result<(), archer_ws::Error> {
//! let client = Client::connect(Config::new("ws://127.0.0.1:8000/api/v1/ws")).await?;
//! let question = vec![ChatMessage::new(MessageRole::User, "Why is the sky blue?")];
//! let mut stream = client.send(ChatSendParams::new(question)).await?;
//! while let Some(event) = stream.next().await {
//!     match event? {
//!         Event::Content(text) => print!("{text}"),
//!         Event::Ended(ended) => println!(" [{}]", ended.status),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`] is a handle that is cheap to clone. A background task owns the socket: it reconnects with backoff,
//!   sends requests without a response again, and resumes every running stream after the last event received.
//! - [`ChatStream`] is read at the caller's pace: unread events are buffered, and a slow reader does not delay the
//!   other streams. Dropping it cancels the stream; [`ChatStream::detach`] lets it run on, and [`Client::resume`] reads
//!   it again, from any process.
//! - [`Tools`] run the calls that a stream waits for. Each call is claimed first, so that it runs once.
//! - [`Client::call`] calls any other method. The type of the params, one of [`types`], determines the method's name
//!   and the type of its result.
//! - [`types`] has the messages of the protocol, generated from the server's models.
//!
//! Features: `rest` adds a client of the same streams over HTTP; `sidecar` starts the server as a process that ends with
//! this one; `native-tls` adds `wss://` and `https://`.

mod client;
#[cfg(feature = "rest")]
pub mod rest;
#[cfg(feature = "sidecar")]
pub mod sidecar;
#[allow(rustdoc::bare_urls)] // generated
pub mod types;

pub use client::{
    Answer, Approval, ArgumentsDelta, ChatStream, Client, Config, Error, Event, ToolContext,
    ToolError, ToolHandler, Tools, UnknownEvent,
};
