//! The one module with `unsafe` code, alone, so that `.ci/run sanitize` can build its tests with the address sanitizer
//! in seconds instead of the whole program in many minutes.

#![allow(dead_code, missing_docs, reason = "what the kernel's callers use is not here")]

#[path = "../../src/gym"]
pub mod gym {
    pub mod simd;

    pub mod policy {
        pub mod kernel;
    }
}
