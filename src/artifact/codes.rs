//! Codes: everything that can be wrong with an artifact, each a fault of its miner.
//!
//! Owns the names, words and hints of the refusals of this room. Refuses to decide when one applies: the check that
//! raises it does, with the measured value and the limit in the detail. Only this room raises them.

use crate::fault::{Class, Code};

const fn miner(name: &'static str, says: &'static str, hint: &'static str) -> Code {
    Code::new(Class::Miner, name, says, hint)
}

/// The upload, or what it unpacks to, is too large.
pub const ARCHIVE_TOO_LARGE: Code = miner(
    "archive_too_large",
    "the archive is larger than the challenge allows",
    "make the networks smaller, or export them without unused weights",
);
/// Not a tar or gzip file, or a damaged one.
pub const ARCHIVE_MALFORMED: Code = miner(
    "archive_malformed",
    "the archive is not a well-formed tar or gzip-compressed tar file",
    "build it with `waag pack`, or with `tar cf policy.tar policy.toml *.onnx`",
);
/// A link, a directory, a device or an extension that changes what a reader sees.
pub const ARCHIVE_ENTRY_KIND: Code = miner(
    "archive_entry_kind",
    "the archive holds something that is not a regular file",
    "put regular files alone at the top level: no folders, links or long-name extensions; `waag pack` does",
);
/// A name outside the allowed form.
pub const ARCHIVE_NAME: Code = miner(
    "archive_name",
    "a file name in the archive is not allowed",
    "use names of letters, digits, `.`, `_` and `-` at the top level, each once and not differing by case alone",
);
/// Too many entries.
pub const ARCHIVE_TOO_MANY_FILES: Code = miner(
    "archive_too_many_files",
    "the archive holds too many files",
    "one `policy.toml` and one ONNX file for each environment are all that belongs into it",
);
/// A compression bomb.
pub const ARCHIVE_RATIO: Code = miner(
    "archive_ratio",
    "the archive unpacks to implausibly many times its size",
    "send the tar file uncompressed, or without padding",
);
/// Bytes after the end.
pub const ARCHIVE_TRAILING: Code =
    miner("archive_trailing", "the archive goes on after its end", "send one tar or gzip stream with nothing after it");

/// `policy.toml` is missing.
pub const MANIFEST_MISSING: Code = miner(
    "manifest_missing",
    "the archive has no `policy.toml`",
    "add one, or build the archive with `waag pack`, which writes it",
);
/// `policy.toml` cannot be read.
pub const MANIFEST_MALFORMED: Code = miner(
    "manifest_malformed",
    "`policy.toml` cannot be read",
    "write `format = 1` and a table `[environments]` with lines such as `\"CartPole-v1\" = \"cartpole.onnx\"`",
);
/// Manifest and archive disagree.
pub const MANIFEST_FILES: Code = miner(
    "manifest_files",
    "`policy.toml` and the files of the archive do not match",
    "name every ONNX file of the archive exactly once under `[environments]`",
);
/// An environment that the challenge does not have.
pub const ENVIRONMENT_UNKNOWN: Code = miner(
    "environment_unknown",
    "the policy names an environment that this challenge does not have",
    "remove it, or spell it as the challenge does; a policy may cover some of the environments",
);

/// The model file is too large.
pub const ONNX_TOO_LARGE: Code = miner(
    "onnx_too_large",
    "an ONNX file is larger than the challenge allows",
    "export a smaller network, or in float16",
);
/// Not an ONNX file.
pub const ONNX_MALFORMED: Code = miner(
    "onnx_malformed",
    "an ONNX file cannot be decoded",
    "export it again and check it with `onnx.checker.check_model`",
);
/// Too many parts.
pub const ONNX_TOO_COMPLEX: Code = miner(
    "onnx_too_complex",
    "an ONNX file has too many or too deeply nested parts",
    "export the network for inference alone, without loops unrolled",
);
/// A version outside the supported range.
pub const ONNX_VERSION: Code = miner(
    "onnx_version",
    "an ONNX file uses a version of the format or of the operators that is not supported",
    "export with an `opset_version` in the supported range, such as 20",
);
/// Weights in another file.
pub const ONNX_EXTERNAL_DATA: Code = miner(
    "onnx_external_data",
    "an ONNX file keeps weights in another file",
    "export again with `external_data=False`, or build the archive with `waag pack`, which inlines them",
);
/// A domain other than the standard one.
pub const ONNX_CUSTOM_DOMAIN: Code = miner(
    "onnx_custom_domain",
    "an ONNX file uses an operator of a custom domain",
    "use operators of the standard domain alone",
);
/// If, Loop, Scan.
pub const ONNX_CONTROL_FLOW: Code = miner(
    "onnx_control_flow",
    "an ONNX file uses control flow",
    "export a network without branches and loops over data; select with `Where` instead",
);
/// An operator that is not allowed.
pub const ONNX_OPERATOR: Code = miner(
    "onnx_operator",
    "an ONNX file uses an operator that policies may not use",
    "use the operators that the handbook lists",
);
/// Functions that grow too large or call themselves.
pub const ONNX_FUNCTIONS: Code = miner(
    "onnx_functions",
    "the functions of an ONNX file expand beyond the budget",
    "export with `optimize=True`, or inline the functions with `onnx.inliner` and simplify the network",
);
/// An attribute that is missing, unknown or of the wrong kind.
pub const ONNX_ATTRIBUTE: Code = miner(
    "onnx_attribute",
    "an operator of an ONNX file has a wrong attribute or a wrong number of inputs",
    "export it again and check it with `onnx.checker.check_model(model, full_check=True)`",
);
/// A tensor whose bytes do not match its shape and type, or of a type that is not allowed.
pub const ONNX_TENSOR: Code = miner(
    "onnx_tensor",
    "a constant of an ONNX file has a wrong size or a type that policies may not use",
    "use float, integer and truth-value constants whose bytes match their shape",
);
/// Sparse constants, training graphs and other parts policies have no use for.
pub const ONNX_PART: Code = miner(
    "onnx_part",
    "an ONNX file has a part that policies may not use",
    "export the network for inference, with dense constants",
);
/// Values used before they are made, made twice, or never made.
pub const ONNX_GRAPH: Code = miner(
    "onnx_graph",
    "the graph of an ONNX file is not in order",
    "every value must be made once, before it is used; check it with `onnx.checker.check_model`",
);
/// The input is not the observation.
pub const ONNX_INPUT: Code = miner(
    "onnx_input",
    "the input of an ONNX file is not a batch of observations",
    "export one float32 input `observation` of shape `[N, obs_dim]` with a named batch dimension (dynamic)",
);
/// The output is not logits or actions.
pub const ONNX_OUTPUT: Code = miner(
    "onnx_output",
    "the output of an ONNX file is not what the environment takes",
    "export one output: logits `[N, actions]`, integer actions `[N]`, or continuous actions `[N, action_dim]`",
);
/// Shapes that do not fit or are not known before the model runs.
pub const ONNX_SHAPE: Code = miner(
    "onnx_shape",
    "a shape in an ONNX file does not fit, or is not known before it runs",
    "export with fixed shapes apart from the batch dimension",
);
/// Rows of a batch influence one another.
pub const ONNX_BATCH: Code = miner(
    "onnx_batch",
    "a row of the batch influences another in an ONNX file",
    "an action may depend on its own observation alone: no reduction, selection or quantisation across the batch",
);
/// Too much work a row.
pub const ONNX_WORK: Code =
    miner("onnx_work", "an ONNX file asks for more work than a step may cost", "make the network smaller");

/// Two bundles or files that `waag pack` cannot make into one.
pub const PACK_INPUT: Code = miner(
    "pack_input",
    "the files cannot be packed",
    "name each environment once, as `waag pack CartPole-v1=cartpole.onnx`",
);
/// External data that does not lie beside the ONNX file.
pub const PACK_EXTERNAL_PATH: Code = miner(
    "pack_external_path",
    "an ONNX file refers to data outside of its own folder",
    "put the data file beside the ONNX file, and export with a plain file name",
);
/// The machine did not let the packer read or write.
pub const PACK_IO: Code = Code::new(
    Class::Operator,
    "pack_io",
    "a file could not be read or written while packing",
    "check the path and its permissions",
);

/// Every code of this room.
pub const CODES: &[Code] = &[
    ARCHIVE_TOO_LARGE,
    ARCHIVE_MALFORMED,
    ARCHIVE_ENTRY_KIND,
    ARCHIVE_NAME,
    ARCHIVE_TOO_MANY_FILES,
    ARCHIVE_RATIO,
    ARCHIVE_TRAILING,
    MANIFEST_MISSING,
    MANIFEST_MALFORMED,
    MANIFEST_FILES,
    ENVIRONMENT_UNKNOWN,
    ONNX_TOO_LARGE,
    ONNX_MALFORMED,
    ONNX_TOO_COMPLEX,
    ONNX_VERSION,
    ONNX_EXTERNAL_DATA,
    ONNX_CUSTOM_DOMAIN,
    ONNX_CONTROL_FLOW,
    ONNX_OPERATOR,
    ONNX_FUNCTIONS,
    ONNX_ATTRIBUTE,
    ONNX_TENSOR,
    ONNX_PART,
    ONNX_GRAPH,
    ONNX_INPUT,
    ONNX_OUTPUT,
    ONNX_SHAPE,
    ONNX_BATCH,
    ONNX_WORK,
    PACK_INPUT,
    PACK_EXTERNAL_PATH,
    PACK_IO,
];

/// Text from the file, fit to stand in a message: bounded, escaped and quoted.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(60).is_some() { "…" } else { "" };
    format!("`{shown}{more}`")
}
