//! A tool for the command line: it tells what runs and what is dropped.

use std::future::pending;

use archer_ws::types::{Content, StreamToolCall, Tool};
use archer_ws::{Approval, ToolContext, ToolError, ToolHandler, Tools};
use serde_json::{Value, json};

use crate::tell;

/// Knows that it rains, everywhere but `nowhere` (which it looks for until it is dropped), in `error` (where it finds
/// nothing), and in `panic`.
struct Weather {
    needs_approval: bool,
}

impl ToolHandler for Weather {
    fn declaration(&self) -> Tool {
        Tool {
            description: Some("The weather in a city, now.".into()),
            needs_approval: self.needs_approval.then_some(true),
            ..Tool::new("get_weather")
        }
    }

    async fn run(&self, arguments: Value, context: ToolContext) -> Result<Content, ToolError> {
        tell(&json!({"ran": context.call_id}));
        match arguments["city"].as_str() {
            Some("nowhere") => {
                let _noticed = Noticed(context.call_id);
                pending().await
            }
            Some("panic") => panic!("no such place"),
            Some("error") | None => Err("there is no such city".into()),
            Some(city) => Ok(format!("rain in {city}").into()),
        }
    }
}

struct Noticed(String);

impl Drop for Noticed {
    fn drop(&mut self) {
        tell(&json!({"dropped": self.0}));
    }
}

/// The tool. `free`: its calls need nobody's approval. Else they do, of a person who says `yes`, `no: …`, or (`silent`)
/// nothing for ever; `none`: there is nobody to ask.
pub fn tools(person: &str) -> Tools {
    let tools = Tools::new().with(Weather {
        needs_approval: person != "free",
    });
    if matches!(person, "free" | "none") {
        return tools;
    }
    let said = person.to_owned();
    tools.approve(move |call: StreamToolCall| {
        let said = said.clone();
        async move {
            let silent = (said == "silent").then(|| Noticed(call.call_id.clone()));
            tell(&json!({"asked": call.call_id}));
            if silent.is_some() {
                pending::<()>().await;
            }
            match said.strip_prefix("no: ") {
                Some(reason) => Approval::Denied(Some(reason.into())),
                None => Approval::Approved,
            }
        }
    })
}
