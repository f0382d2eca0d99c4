//! The handlers that a program passes with a stream, to run the stream's tool calls.
//!
//! The [`runner`](super::runner) decides when they run.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::types::{ChatSendParams, Content, OnToolCall, StreamToolCall, Tool};

/// Why a tool failed; its text is sent to the model as the tool result.
pub type ToolError = Box<dyn Error + Send + Sync>;

/// A tool that the program implements.
pub trait ToolHandler: Send + Sync + 'static {
    /// The tool's declaration for the model; it also says whether calls need a person's approval.
    fn declaration(&self) -> Tool;

    /// Run a call. The server has checked the arguments against the tool's schema. The returned content is sent to the
    /// model as the tool result; an error's text is sent with the status `error`.
    ///
    /// The future is dropped if its result is no longer needed, because the stream has ended or its [`ChatStream`] was
    /// dropped, or because the call got its result elsewhere.
    ///
    /// [`ChatStream`]: super::ChatStream
    fn run(
        &self,
        arguments: Value,
        context: ToolContext,
    ) -> impl Future<Output = Result<Content, ToolError>> + Send;
}

/// The call that a handler runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ToolContext {
    /// The id of the stream that waits for the result.
    pub stream_id: String,
    /// The call's id. It is the same in every client that may run the call, so it serves as an idempotency key.
    pub call_id: String,
}

/// A person's decision about a call that needs approval.
#[derive(Clone, Debug, PartialEq)]
pub enum Approval {
    /// The call may run.
    Approved,
    /// The call may not run; the reason is sent to the model.
    Denied(Option<String>),
}

/// The tools of a stream, and the function that asks a person for approval.
#[derive(Clone, Default)]
pub struct Tools {
    handlers: Vec<(Tool, Arc<dyn Runnable>)>,
    approve: Option<Arc<Ask>>,
}

type Ask = dyn Fn(StreamToolCall) -> BoxFuture<'static, Approval> + Send + Sync;

impl Tools {
    /// No tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add a tool.
    pub fn with(mut self, handler: impl ToolHandler) -> Self {
        self.handlers
            .push((handler.declaration(), Arc::new(handler)));
        self
    }

    /// Call `ask` once for each call that needs approval. Its future is dropped if another client decides first.
    /// Without this function such calls wait for a `tool/approve` from any client.
    pub fn approve<F, A>(mut self, ask: F) -> Self
    where
        F: Fn(StreamToolCall) -> A + Send + Sync + 'static,
        A: Future<Output = Approval> + Send + 'static,
    {
        self.approve = Some(Arc::new(move |call| ask(call).boxed()));
        self
    }

    /// Add the tools to those that the request declares. `on_tool_call` becomes `wait`, unless the request sets it.
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

    /// Whether there are no tools and no approval function.
    pub(super) fn is_empty(&self) -> bool {
        self.handlers.is_empty() && self.approve.is_none()
    }

    pub(super) fn handler(&self, name: &str) -> Option<Arc<dyn Runnable>> {
        let mut found = self.handlers.iter().filter(|(tool, _)| tool.name == name);
        found.next().map(|(_, handler)| Arc::clone(handler))
    }

    /// Ask for approval of a call; None without an approval function.
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

/// A [`ToolHandler`] as a trait object.
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
