//! Sends a question and prints the completion while it is generated:
//!
//! ```sh
//! cargo run --example chat -- ws://127.0.0.1:8000/api/v1/ws "Why is the sky blue?"
//! ```
//!
//! If the server needs a token, set `ARCHER_TOKEN`.

use std::error::Error;
use std::io::{Write, stdout};

use archer_ws::types::{ChatMessage, ChatSendParams, MessageRole};
use archer_ws::{Client, Config, Event};
use futures_util::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(question)) = (arguments.next(), arguments.next()) else {
        return Err("usage: chat URL QUESTION".into());
    };
    let client = Client::connect(Config {
        token: std::env::var("ARCHER_TOKEN").ok(),
        ..Config::new(url)
    })
    .await?;
    let messages = vec![ChatMessage::new(MessageRole::User, question)];
    let mut stream = client.send(ChatSendParams::new(messages)).await?;
    while let Some(event) = stream.next().await {
        match event? {
            Event::Content(text) => {
                print!("{text}");
                stdout().flush()?;
            }
            Event::Ended(ended) => println!(" [{}]", ended.status),
            _ => {}
        }
    }
    Ok(())
}
