//! How a Rust core talks to the sidecar: [`client`] over the socket, [`rest`] over HTTP, both with the types that
//! `archer-ws schema` writes.
//!
//! Meant to be lifted: copy `client/`, `rest.rs` and `schemas/archer.rs` into a crate that has these three modules at
//! its root, and the dependencies from `Cargo.toml`.

#[rustfmt::skip] // generated
#[path = "../../../../schemas/archer.rs"]
pub mod archer;
pub mod client;
pub mod rest;
