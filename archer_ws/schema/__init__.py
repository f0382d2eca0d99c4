"""The files of schemas/: JSON Schema, OpenRPC, OpenAPI, TypeScript, Rust (protocol section 12)."""
