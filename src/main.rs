//! The binary: hands its arguments to the library and ends with the library's exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    waag::cli::main(std::env::args_os())
}
