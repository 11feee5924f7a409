//! What may be wrong with a model among others.

use crate::fault::{Class, Code};

/// Somebody else committed these weights before.
pub const DUPLICATE: Code = Code::new(
    Class::Miner,
    "duplicate",
    "the model is an elder one's in disguise, or that one itself",
    "look at the evidence: it names the elder and what is the same",
);
/// The model was built from somebody else's.
pub const DERIVATIVE: Code = Code::new(
    Class::Miner,
    "derivative",
    "the model was built from an elder one of another owner, which this challenge does not take",
    "look at the evidence for the elder, and train from the base",
);
/// The commitment does not say where the model is.
pub const REFERENCE_MISSING: Code = Code::new(
    Class::Operator,
    "reference_missing",
    "the commitment was read by a pattern without a repository",
    "give the profile's pattern a part {repo:path}, as it had when the commitment was made",
);
/// There is too much in it to be told apart.
pub const FINGERPRINT_TOO_LARGE: Code = Code::new(
    Class::Miner,
    "fingerprint_too_large",
    "the model has more matrices than a fingerprint keeps apart",
    "look at the shapes: each expert of a tensor of three sides is a matrix of its own",
);
/// The model is not made from the base.
pub const FOREIGN_TENSORS: Code = Code::new(
    Class::Miner,
    "foreign_tensors",
    "the model does not have the tensors of the challenge's base",
    "keep the names and shapes of the base's tensors; what is trained may change, what they are may not",
);
/// There is no room for the model on this machine's disk.
pub const NO_ROOM: Code = Code::new(
    Class::Operator,
    "model_room_missing",
    "a model waits for room on the disk",
    "raise `slots.disk_mib`, or wait: models that nobody needs any more are deleted",
);
/// A fingerprint cannot be made or read here.
pub const FINGERPRINT_FAILED: Code = Code::new(
    Class::Infra,
    "fingerprint_failed",
    "the fingerprint of a model could not be made or read on this machine",
    "nothing to do: it is tried again; look at the disk when it repeats",
);
/// The base model that the profile names cannot be had.
pub const BASE_UNAVAILABLE: Code = Code::new(
    Class::Operator,
    "base_unavailable",
    "the base model that the profile names is not what models can be compared with",
    "correct `base` in the options of the profile's artifact; submissions wait until then",
);

/// The codes of this room.
pub const CODES: &[Code] = &[
    FINGERPRINT_TOO_LARGE,
    FOREIGN_TENSORS,
    NO_ROOM,
    DUPLICATE,
    DERIVATIVE,
    REFERENCE_MISSING,
    FINGERPRINT_FAILED,
    BASE_UNAVAILABLE,
];
