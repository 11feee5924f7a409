//! libFuzzer's way to the readers of models.
#![no_main]

#[path = "../../target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::look(data));
