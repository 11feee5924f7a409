//! Codes: everything that can be wrong with a model, and with fetching it.
//!
//! Owns names, words and hints. Refuses to decide when one applies. The names are those that miners of such subnets
//! know; a missing or wrong model is its miner's, a source that does not answer never is.

use crate::fault::{Class, Code};

const fn miner(name: &'static str, says: &'static str, hint: &'static str) -> Code {
    Code::new(Class::Miner, name, says, hint)
}

const fn provider(name: &'static str, says: &'static str, hint: &'static str) -> Code {
    Code::new(Class::Provider, name, says, hint)
}

/// Repository or digest are not of the form.
pub const INVALID_REF: Code = miner(
    "invalid_ref",
    "the committed reference is not of the form `namespace/name` with a digest",
    "commit the lower-case repository and the `sha256:` digest that `waag publish` prints",
);
/// The repository's name is not what the challenge asks for.
pub const REPO_NAMING: Code = miner(
    "repo_naming",
    "the repository's name does not follow the challenge's pattern",
    "publish under a name of the pattern; `waag profile show` prints it",
);
/// There is no such repository or digest.
pub const REPO_NOT_FOUND: Code = miner(
    "repo_not_found",
    "the repository or the digest does not exist",
    "commit the digest that the repository has, and keep it there; `waag check --repo R --digest D` looks from outside",
);
/// What the registry holds is no model.
pub const REPO_MALFORMED: Code = miner(
    "repo_malformed",
    "what is stored under the digest is not a repository of a model",
    "publish with `waag publish`, which writes one layer for each file, with its name as the layer's title",
);
/// The repository holds nothing.
pub const EMPTY_REPO: Code =
    miner("empty_repo", "the repository holds no file", "upload the model and commit its new digest");
/// Files that are missing or do not belong.
pub const FILE_MANIFEST: Code = miner(
    "file_manifest",
    "the files of the repository are not those that the challenge asks for",
    "add what is missing and remove what is extra; code, links and names that differ by case alone are never taken",
);
/// A tensor type that the challenge does not take.
pub const WEIGHT_DTYPE: Code = miner(
    "weight_dtype",
    "a tensor is of a type that the challenge does not take",
    "convert the weights to one of the allowed types, such as bfloat16",
);
/// A shard whose header breaks the format.
pub const SAFETENSORS_HEADER: Code = miner(
    "safetensors_header",
    "a weight file is not well-formed safetensors",
    "save the model again with the public safetensors library",
);
/// Shards and index disagree.
pub const SAFETENSORS_INDEX: Code = miner(
    "safetensors_index",
    "the index and the weight files do not name the same tensors",
    "save model and index in one go; no shard and no tensor may be unnamed, missing or twice",
);
/// The configuration is not the challenge's architecture.
pub const ARCHITECTURE: Code = miner(
    "architecture",
    "the configuration is not the architecture of the challenge",
    "take `config.json` of the challenge's own model; only what the challenge leaves open may differ",
);
/// What was listed could not be fetched whole.
pub const INCOMPLETE_REPO: Code =
    miner("incomplete_repo", "the repository lacks a file that it lists", "upload it again and commit the new digest");
/// The whole is larger than the challenge takes.
pub const MODEL_TOO_LARGE: Code = miner(
    "model_too_large",
    "the repository is larger than the challenge takes",
    "remove what does not belong to the model, or use a smaller type for the weights",
);
/// The source did not answer the list.
pub const LIST_FILES_FAILED: Code = provider(
    "list_files_failed",
    "the repository's files could not be listed",
    "nothing to do: it is tried again; look at the source's own status page when it repeats",
);
/// The source did not answer ranges of a file.
pub const PREFLIGHT_FAILED: Code = provider(
    "preflight_failed",
    "the headers of the weight files could not be read by range",
    "nothing to do: it is tried again; a source that answers ranges with whole files cannot be used",
);
/// The source did not give a file.
pub const DOWNLOAD_FAILED: Code = provider(
    "download_failed",
    "a file of the repository could not be fetched",
    "nothing to do: it is tried again and goes on where it stopped",
);

/// The registry did not take the model.
pub const UPLOAD_FAILED: Code = provider(
    "model_upload_failed",
    "the registry did not take a file of the model, or its manifest",
    "run it again: what the registry has is not sent again; look at the registry's own status page when it repeats",
);

/// The registry does not let us write.
pub const REGISTRY_DENIED: Code = Code::new(
    Class::Operator,
    "registry_denied",
    "the registry does not let this name write to the repository",
    "give the name with `--username` and its password or token in a file with `--registry-password-file`",
);
/// There is no registry to push to.
pub const REGISTRY_NONE: Code = Code::new(
    Class::Operator,
    "registry_none",
    "the challenge's models are not in a registry, so that this program cannot upload them",
    "upload with the source's own tool, then `waag check --repo R --digest D` and `waag commit --repo R --digest D`",
);
/// A file on this machine cannot be read or written.
pub const MODEL_UNREADABLE: Code = Code::new(
    Class::Infra,
    "model_unreadable",
    "a file of the model cannot be read or written on this machine",
    "look at its folder, its mode and the free space of the disk",
);
/// A model that no deletion makes room for.
pub const DISK_TOO_SMALL: Code = Code::new(
    Class::Operator,
    "model_larger_than_disk",
    "a model is larger than all that models may take of the disk",
    "raise `slots.disk_mib`, give the data directory a larger disk, or lower `bytes_max` in the profile",
);
/// The source of the profile is where this program may not go.
pub const FETCH_NOT_ALLOWED: Code = Code::new(
    Class::Operator,
    "fetch_not_allowed",
    "the source that the profile names is at an address that must not be spoken to",
    "correct `source` in the profile, or set `fetch.addresses` to \"any\" when the source is a machine of your own",
);
/// The codes of this room.
pub const CODES: &[Code] = &[
    INVALID_REF,
    REPO_NAMING,
    REPO_NOT_FOUND,
    REPO_MALFORMED,
    EMPTY_REPO,
    FILE_MANIFEST,
    WEIGHT_DTYPE,
    SAFETENSORS_HEADER,
    SAFETENSORS_INDEX,
    ARCHITECTURE,
    INCOMPLETE_REPO,
    MODEL_TOO_LARGE,
    LIST_FILES_FAILED,
    PREFLIGHT_FAILED,
    DOWNLOAD_FAILED,
    UPLOAD_FAILED,
    REGISTRY_DENIED,
    REGISTRY_NONE,
    MODEL_UNREADABLE,
    DISK_TOO_SMALL,
    FETCH_NOT_ALLOWED,
];
