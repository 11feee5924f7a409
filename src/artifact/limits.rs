//! Limits: how large and how costly an artifact may be.
//!
//! Owns the numbers of this room, each with its reason. Refuses to enforce them: the reader of the input does, and tests
//! it at the edge. A profile may lower the sizes, never the rest.

/// The numbers an artifact is held against. `Default` gives the public limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the upload: room for five networks of a hundred thousand weights each, several times over.
    pub archive_bytes: u64,
    /// Bytes of everything inside: what one check may hold in memory.
    pub unpacked_bytes: u64,
    /// Bytes of one ONNX file.
    pub model_bytes: u64,
    /// What one observation may cost in multiply-adds, with a price for each node and each element: four hundred times a
    /// 64×64 network, about 2 ms on one core.
    pub work_per_row: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 4 * 1024 * 1024,
            unpacked_bytes: 16 * 1024 * 1024,
            model_bytes: 8 * 1024 * 1024,
            work_per_row: 2_000_000,
        }
    }
}

impl Limits {
    /// The public limits with a profile's own size of an upload. A profile cannot raise it above what one check may
    /// hold in memory.
    #[must_use]
    pub fn with_archive_bytes(bytes: u64) -> Self {
        let public = Self::default();
        Self { archive_bytes: bytes.min(public.unpacked_bytes), ..public }
    }
}

/// Files in an archive: a manifest and fifteen environments.
pub const ARCHIVE_FILES: usize = 16;
/// Characters of a file name or an environment's name.
pub const NAME_CHARS: usize = 64;
/// Unpacked bytes for each byte sent: weights hardly compress, so a hundred is a bomb.
pub const ARCHIVE_RATIO: u64 = 100;
/// Unpacked bytes below which the ratio is not looked at: small text and padding compress well.
pub const ARCHIVE_RATIO_FROM_BYTES: u64 = 1024 * 1024;
/// Bytes of one extended header: a few times and an owner's name.
pub const PAX_BYTES: u64 = 4096;
/// Zero blocks after the end of an archive: tar pads to 10 KiB, some writers to 1 MiB.
pub const ARCHIVE_PADDING_BYTES: usize = 1024 * 1024;
/// Bytes of the manifest: a hundred times the longest sensible one.
pub const MANIFEST_BYTES: usize = 64 * 1024;
/// Characters of a policy's name in the manifest.
pub const MANIFEST_NAME_CHARS: usize = 100;
/// Characters of a policy's description in the manifest.
pub const MANIFEST_DESCRIPTION_CHARS: usize = 2000;

/// Nesting of messages in an ONNX file: real exports stay below eight.
pub const ONNX_DEPTH: usize = 24;
/// Messages in an ONNX file, each up to 300 bytes once decoded.
pub const ONNX_MESSAGES: u64 = 100_000;
/// Text and byte fields in an ONNX file.
pub const ONNX_STRINGS: u64 = 200_000;
/// Numbers written one by one in an ONNX file, each up to eight times larger once decoded.
pub const ONNX_VARINTS: u64 = 4_000_000;
/// Nodes after functions are expanded and unused ones dropped.
pub const ONNX_NODES: usize = 2048;
/// What a node costs for one observation besides its arithmetic, in multiply-adds: a backend's call, shared by the rows
/// of a block.
pub const ONNX_NODE_WORK: u64 = 256;
/// What it costs to write one element of a value, in multiply-adds.
pub const ONNX_ELEMENT_WORK: u64 = 8;
/// Nodes looked at while functions are expanded.
pub const ONNX_EXPANDED_NODES: usize = 8192;
/// Bytes copied while functions are expanded: a constant in a body is copied with every call.
pub const ONNX_EXPANDED_BYTES: usize = 16 * 1024 * 1024;
/// Functions calling functions.
pub const ONNX_FUNCTION_DEPTH: usize = 8;
/// Dimensions of a tensor.
pub const ONNX_RANK: usize = 8;
/// Elements of one value for one observation: a batch of 256 rows of these takes 64 MiB.
pub const ONNX_ROW_ELEMENTS: u64 = 1 << 16;
/// Elements of all values together for one observation: a batch of 256 rows of these takes 256 MiB.
pub const ONNX_ROW_TOTAL_ELEMENTS: u64 = 1 << 18;
/// Elements of one value that the batch does not touch, such as a transposed weight.
pub const ONNX_SHARED_ELEMENTS: u64 = 1 << 20;
/// Elements of all such values together.
pub const ONNX_SHARED_TOTAL_ELEMENTS: u64 = 1 << 22;
/// Elements of a value that is followed as data, because a shape is computed from it.
pub const ONNX_FOLLOWED_ELEMENTS: usize = 64;
/// Inputs or outputs of one node.
pub const ONNX_PORTS: usize = 64;
/// First supported version of the file format: earlier ones list every weight as an input.
pub const ONNX_IR_MIN: i64 = 4;
/// Last supported version of the file format, the newest whose schema `proto` knows.
pub const ONNX_IR_MAX: i64 = 14;
/// First supported operator set: `Clip` and `Pad` take inputs, as in every later one.
pub const ONNX_OPSET_MIN: i64 = 11;
/// Last supported operator set, the newest that both backends read.
pub const ONNX_OPSET_MAX: i64 = 24;
