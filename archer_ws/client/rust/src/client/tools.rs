//! Tools that run here: what a program hands over to have the calls of its streams run.
//!
//! When they run is the [`runner`](super::runner)'s.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::types::{ChatSendParams, Content, OnToolCall, StreamToolCall, Tool};

/// Why a tool has no result; the model is told its text.
pub type ToolError = Box<dyn Error + Send + Sync>;

/// A tool of the program's own.
pub trait ToolHandler: Send + Sync + 'static {
    /// What the model is told of it, and whether a person must agree to its calls.
    fn declaration(&self) -> Tool;

    /// Run a call; the server has held its arguments to the tool's schema. What it gives is told to the model, an error
    /// as such.
    ///
    /// The future is dropped where its result is of no use any more: the stream has ended or was let go of, the call
    /// was settled elsewhere.
    fn run(
        &self,
        arguments: Value,
        context: ToolContext,
    ) -> impl Future<Output = Result<Content, ToolError>> + Send;
}

/// Which call a handler runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ToolContext {
    /// The stream that waits for it.
    pub stream_id: String,
    /// The call's id, the same for whoever runs it: an idempotency key.
    pub call_id: String,
}

/// What a person says of a call that needs approval.
#[derive(Clone, Debug, PartialEq)]
pub enum Approval {
    /// It may run.
    Approved,
    /// It may not; the model is told the reason.
    Denied(Option<String>),
}

/// The tools of a stream, and who is asked where one needs approval.
#[derive(Clone, Default)]
pub struct Tools {
    handlers: Vec<(Tool, Arc<dyn Runnable>)>,
    approve: Option<Arc<Ask>>,
}

type Ask = dyn Fn(StreamToolCall) -> BoxFuture<'static, Approval> + Send + Sync;

impl Tools {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    pub fn with(mut self, handler: impl ToolHandler) -> Self {
        self.handlers
            .push((handler.declaration(), Arc::new(handler)));
        self
    }

    /// Ask this, once for each call that needs approval. The future is dropped when another client's answer comes first.
    /// Without it such calls wait for a `tool/approve` from wherever.
    pub fn approve<F, A>(mut self, ask: F) -> Self
    where
        F: Fn(StreamToolCall) -> A + Send + Sync + 'static,
        A: Future<Output = Approval> + Send + 'static,
    {
        self.approve = Some(Arc::new(move |call| ask(call).boxed()));
        self
    }

    /// Offer them, beside what the request offers itself; its stream waits for their results unless it says otherwise.
    pub(super) fn offer(&self, params: &mut ChatSendParams) {
        if self.handlers.is_empty() {
            return;
        }
        let offered = params.tools.get_or_insert_default();
        for (declaration, _) in &self.handlers {
            if offered.iter().all(|tool| tool.name != declaration.name) {
                offered.push(declaration.clone());
            }
        }
        params.on_tool_call.get_or_insert(OnToolCall::Wait);
    }

    /// Whether there is nothing to be run, and nobody to be asked.
    pub(super) fn is_empty(&self) -> bool {
        self.handlers.is_empty() && self.approve.is_none()
    }

    pub(super) fn handler(&self, name: &str) -> Option<Arc<dyn Runnable>> {
        let mut found = self.handlers.iter().filter(|(tool, _)| tool.name == name);
        found.next().map(|(_, handler)| Arc::clone(handler))
    }

    /// What a person says of a call, where there is somebody to ask.
    pub(super) fn ask(&self, call: &StreamToolCall) -> Option<BoxFuture<'static, Approval>> {
        self.approve.as_ref().map(|ask| ask(call.clone()))
    }
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.handlers.iter().map(|(tool, _)| &tool.name))
            .finish()
    }
}

/// A [`ToolHandler`] of any type.
pub(super) trait Runnable: Send + Sync {
    fn start<'a>(
        &'a self,
        arguments: Value,
        context: ToolContext,
    ) -> BoxFuture<'a, Result<Content, ToolError>>;
}

impl<H: ToolHandler> Runnable for H {
    fn start<'a>(
        &'a self,
        arguments: Value,
        context: ToolContext,
    ) -> BoxFuture<'a, Result<Content, ToolError>> {
        self.run(arguments, context).boxed()
    }
}
