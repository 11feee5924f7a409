//! The stable codes of this room, and which of them a name of the chain's own belongs to.
//!
//! Owns the words. Refuses to raise anything. The errors of this room carry them.

use crate::fault::{Class, Code};

/// No endpoint could be reached.
pub(super) const UNREACHABLE: Code = Code::new(
    Class::Provider,
    "chain_unreachable",
    "no chain endpoint could be reached",
    "check the network and the endpoint; work continues by itself when it answers again",
);
/// A request got no answer in time.
pub(super) const TIMEOUT: Code = Code::new(
    Class::Provider,
    "chain_timeout",
    "the chain endpoint did not answer in time",
    "add a second endpoint, or raise the request time-out",
);
/// The node answered with an RPC error.
pub(super) const RPC_REFUSED: Code = Code::new(
    Class::Provider,
    "chain_rpc_refused",
    "the chain endpoint refused a request",
    "the endpoint may limit requests or lack a method; try another endpoint",
);
/// The endpoint was asked too often.
pub(super) const RATE_LIMITED: Code = Code::new(
    Class::Provider,
    "chain_rate_limited",
    "the chain endpoint answers no more requests for a while",
    "it is tried again by itself, less often; add a second endpoint, best a node of your own",
);
/// The endpoint's certificate.
pub(super) const CERTIFICATE: Code = Code::new(
    Class::Provider,
    "chain_certificate_untrusted",
    "a chain endpoint shows a certificate that this machine does not trust",
    "correct the address, or add the certificate's authority to this machine's, or name its file in SSL_CERT_FILE",
);
/// The head stands still.
pub(super) const STALLED: Code = Code::new(
    Class::Provider,
    "chain_stalled",
    "no new final block has come for a minute, and no other endpoint knows one",
    "nothing needs to be done if the whole chain stands still; else add an endpoint that is up to date",
);
/// The node's chain is not the one that was followed.
pub(super) const DIVERGED: Code = Code::new(
    Class::Provider,
    "chain_diverged",
    "the chain endpoint's final blocks do not continue those that were followed",
    "use another endpoint; after a chain of your own was made anew, start with a new data directory",
);
/// An answer that cannot be right.
pub(super) const ANSWER_INVALID: Code = Code::new(
    Class::Provider,
    "chain_answer_invalid",
    "the chain endpoint gave an answer that contradicts itself",
    "try another endpoint; if it happens with several, report it with the detail",
);
/// The block is not known to the node.
pub(super) const BLOCK_UNKNOWN: Code = Code::new(
    Class::Provider,
    "chain_block_unknown",
    "the chain endpoint does not know that block",
    "the endpoint may lag behind or the block was replaced; it is tried again",
);
/// The state is gone on that node.
pub(super) const STATE_PRUNED: Code = Code::new(
    Class::Provider,
    "chain_state_pruned",
    "the chain endpoint no longer keeps the state of that block",
    "use an archive endpoint to read old blocks",
);
/// The state is gone, and the archive does not answer.
pub(super) const ARCHIVE_UNREACHABLE: Code = Code::new(
    Class::Provider,
    "chain_archive_unreachable",
    "the archive that keeps the state of old blocks could not be asked for it",
    "the appliance goes on and reads those blocks when an archive answers again; check `network.archive_endpoints`",
);
/// A different chain.
pub(super) const WRONG_NETWORK: Code = Code::new(
    Class::Operator,
    "chain_wrong_network",
    "the endpoint serves another chain than this appliance was set up for",
    "correct the endpoint, or start with a new data directory for the other chain",
);
/// An endpoint that is not a WebSocket address.
pub(super) const ENDPOINT_INVALID: Code = Code::new(
    Class::Operator,
    "chain_endpoint_invalid",
    "a chain endpoint is not a usable address",
    "write it as ws://host:port or wss://host",
);
/// The runtime lacks what we need.
pub(super) const RUNTIME_UNKNOWN: Code = Code::new(
    Class::Operator,
    "chain_runtime_unknown",
    "the chain is newer than this binary: its runtime lacks or changed something that is needed",
    "upgrade waag; nothing is signed until the runtime is understood",
);
/// The transaction can no longer be included.
pub(super) const EXTRINSIC_EXPIRED: Code = Code::new(
    Class::Infra,
    "chain_extrinsic_expired",
    "a signed call was not included in any block before it expired",
    "it is signed anew when the state shows that it had no effect",
);
/// The transaction pool refused a call for its form.
pub(super) const POOL_REFUSED: Code = Code::new(
    Class::Infra,
    "chain_pool_refused",
    "the chain's transaction pool refused a signed call",
    "it is looked for in the blocks and signed anew if it is in none",
);
/// The account cannot pay.
pub(super) const BALANCE_TOO_LOW: Code = Code::new(
    Class::Operator,
    "chain_balance_too_low",
    "the account cannot pay for the call",
    "transfer funds to the coldkey that signs",
);
/// The hotkey is not registered.
pub(super) const NOT_REGISTERED: Code = Code::new(
    Class::Operator,
    "chain_hotkey_not_registered",
    "the hotkey is not registered in the subnet",
    "register it with `waag register`",
);
/// A commitment by an unregistered hotkey.
pub(super) const COMMIT_NOT_ALLOWED: Code = Code::new(
    Class::Miner,
    "chain_commit_not_allowed",
    "only a hotkey that is registered in the subnet may commit",
    "register the hotkey with `waag register`, then commit again",
);
/// Too many commitments in this epoch.
pub(super) const COMMIT_SPACE: Code = Code::new(
    Class::Miner,
    "chain_commit_space_exceeded",
    "the hotkey has used up its space for commitments in this epoch",
    "commit again after the next epoch",
);
/// Already registered.
pub(super) const ALREADY_REGISTERED: Code = Code::new(
    Class::Miner,
    "chain_already_registered",
    "the hotkey is registered in the subnet already",
    "nothing to do; `waag status` shows its uid",
);
/// Registration is closed.
pub(super) const REGISTRATION_CLOSED: Code = Code::new(
    Class::Miner,
    "chain_registration_closed",
    "the subnet accepts no registration now",
    "try again later, or ask the subnet's owner",
);
/// The hotkey belongs to another coldkey.
pub(super) const WRONG_COLDKEY: Code = Code::new(
    Class::Miner,
    "chain_wrong_coldkey",
    "the hotkey belongs to another coldkey",
    "sign with the coldkey that owns the hotkey, or use a new hotkey",
);
/// The subnet does not exist.
pub(super) const SUBNET_MISSING: Code = Code::new(
    Class::Operator,
    "chain_subnet_missing",
    "the subnet does not exist on this chain",
    "check the netuid and the network",
);
/// Stake below the chain's threshold.
pub(super) const STAKE_TOO_LOW: Code = Code::new(
    Class::Operator,
    "chain_stake_too_low",
    "the validator hotkey has less stake than the chain asks for setting weights",
    "add stake to the hotkey",
);
/// No validator permit.
pub(super) const NO_PERMIT: Code = Code::new(
    Class::Operator,
    "chain_no_permit",
    "the validator hotkey has no permit in the subnet",
    "permits go to the largest stakes at each epoch: add stake and wait for the epoch",
);
/// Too soon.
pub(super) const TOO_FAST: Code = Code::new(
    Class::Infra,
    "chain_too_fast",
    "the chain's rate limit does not allow the call yet",
    "it is tried again when the rate limit has passed",
);
/// The chain wants a newer weights version.
pub(super) const VERSION_KEY: Code = Code::new(
    Class::Operator,
    "chain_version_key",
    "the subnet asks for a higher weights version key",
    "set the version key that the subnet's owner announced",
);
/// Weights that break a rule we should have kept.
pub(super) const WEIGHTS_INVALID: Code = Code::new(
    Class::Bug,
    "chain_weights_invalid",
    "the weight vector breaks a rule of the chain",
    "report it with the evidence bundle of the vector",
);
/// Commit-reveal is on.
pub(super) const COMMIT_REVEAL_ON: Code = Code::new(
    Class::Infra,
    "chain_commit_reveal_on",
    "the subnet hides weights until they are revealed, and plain ones do not count there",
    "nothing to do: the weights are decided anew and committed",
);
/// Commit-reveal is off.
pub(super) const COMMIT_REVEAL_OFF: Code = Code::new(
    Class::Infra,
    "chain_commit_reveal_off",
    "the subnet takes no hidden weights now",
    "nothing to do: the weights are decided anew and set plainly",
);
/// Another version of commit-reveal.
pub(super) const COMMIT_VERSION: Code = Code::new(
    Class::Operator,
    "chain_commit_version",
    "the chain takes sealed weights in a form that this version does not write",
    "set `weights.commit` to \"auto\" or \"hash\", or upgrade waag",
);
/// Too many commits wait.
pub(super) const COMMITS_OPEN: Code = Code::new(
    Class::Infra,
    "chain_commits_open",
    "as many committed weights of this hotkey wait to be revealed as the chain allows",
    "look with `waag weights show` whether another program commits with the same hotkey; it is tried again",
);
/// The round has passed.
pub(super) const REVEAL_ROUND: Code = Code::new(
    Class::Infra,
    "chain_reveal_round",
    "the beacon's round for which the weights were sealed has passed",
    "check this machine's clock; the weights are sealed anew",
);
/// A reveal that the chain does not take.
pub(super) const REVEAL_REFUSED: Code = Code::new(
    Class::Infra,
    "chain_reveal_refused",
    "the chain does not take the reveal of committed weights now",
    "it is sent again as long as the epoch of the reveal lasts",
);
/// There is no such mechanism.
pub(super) const MECHANISM_MISSING: Code = Code::new(
    Class::Operator,
    "chain_mechanism_missing",
    "the subnet has no mechanism of that number",
    "correct `weights.mechanism`; `waag weights show` says how many there are",
);
/// Included and failed for a reason without a code of its own.
pub(super) const CALL_FAILED: Code = Code::new(
    Class::Operator,
    "chain_call_failed",
    "the chain executed the call and it failed",
    "the detail names the chain's own error",
);

/// Text that is no sealed commitment.
pub(super) const COMMITMENT_MALFORMED: Code = Code::new(
    Class::Miner,
    "commitment_malformed",
    "the commitment is not of the form that this challenge reads",
    "commit with `waag commit`, which writes waag1:<challenge>:<64 hex digits>",
);
/// The chain takes at most three fields.
pub(super) const COMMITMENT_FULL: Code = Code::new(
    Class::Miner,
    "commitment_full",
    "a hotkey's commitment holds at most three fields and all are in use",
    "commit for at most three challenges with one hotkey",
);

/// A field of a kind that is newer than this binary.
pub(super) const COMMITMENT_UNKNOWN: Code = Code::new(
    Class::Operator,
    "commitment_field_unknown",
    "the hotkey's commitment holds a field that this version cannot write again",
    "upgrade waag; committing now would lose that field",
);

/// No file of that name.
pub(super) const WALLET_MISSING: Code = Code::new(
    Class::Operator,
    "wallet_missing",
    "the key file does not exist",
    "check --wallet.path, --wallet.name and --wallet.hotkey, or create one with `waag wallet create`",
);
/// The file cannot be read or written.
pub(super) const WALLET_UNREADABLE: Code = Code::new(
    Class::Operator,
    "wallet_unreadable",
    "the key file cannot be read or written",
    "check the owner and the permissions of the wallet folder",
);
/// The file is not a key file.
pub(super) const WALLET_MALFORMED: Code = Code::new(
    Class::Operator,
    "wallet_malformed",
    "the key file is not a Bittensor key file",
    "restore it from a backup or regenerate it from its phrase with `btcli wallet regen-hotkey`",
);
/// The file is encrypted and nobody gave a password.
pub(super) const WALLET_ENCRYPTED: Code = Code::new(
    Class::Operator,
    "wallet_encrypted",
    "the key file is encrypted, and there is no password for it",
    "give `--password-file FILE` or the key's BT_PW_ variable, or run it on a terminal and be asked",
);
/// No password opens the file.
pub(super) const WALLET_PASSWORD_WRONG: Code = Code::new(
    Class::Operator,
    "wallet_password_wrong",
    "the password does not open the key file",
    "try again; a password file ends with at most one line break, and counts before the BT_PW_ variable",
);
/// A password that cannot be used.
pub(super) const WALLET_PASSWORD_UNUSABLE: Code = Code::new(
    Class::Operator,
    "wallet_password_unusable",
    "the password cannot be used",
    "choose one of 6 to 1024 bytes that neither begins nor ends with white space",
);
/// No memory for the password's function.
pub(super) const WALLET_MEMORY: Code = Code::new(
    Class::Infra,
    "wallet_memory_missing",
    "there is not enough memory to open or make an encrypted key file",
    "free 512 MiB of memory, or raise this process's limit",
);
/// Key and address differ.
pub(super) const WALLET_MISMATCH: Code = Code::new(
    Class::Operator,
    "wallet_mismatch",
    "the secret in the key file does not belong to the address in it",
    "restore the file from a backup; do not use it",
);
/// A key of a kind we do not sign with.
pub(super) const WALLET_UNSUPPORTED: Code = Code::new(
    Class::Operator,
    "wallet_unsupported",
    "the key file holds no sr25519 secret",
    "use the file with the secret half; one with the public half alone cannot sign",
);
/// A key of another kind.
pub(super) const WALLET_ED25519: Code = Code::new(
    Class::Operator,
    "wallet_ed25519",
    "the key file holds an ed25519 key, and only sr25519 keys sign here",
    "make an sr25519 key with `waag wallet create`, and register that one",
);
/// The hotkey is a coldkey.
pub(super) const WALLET_IS_COLDKEY: Code = Code::new(
    Class::Operator,
    "wallet_is_coldkey",
    "the hotkey is a coldkey, with which no validator may run",
    "make a hotkey of its own with `waag wallet create --hotkey-only --wallet.hotkey NAME`",
);
/// A file exists already.
pub(super) const WALLET_EXISTS: Code = Code::new(
    Class::Operator,
    "wallet_exists",
    "a key file of that name exists already and is never overwritten",
    "choose another wallet or hotkey name",
);
/// A secret text that is not a key.
pub(super) const KEY_INVALID: Code = Code::new(
    Class::Operator,
    "key_invalid",
    "the text is not a secret key",
    "give a 12 or 24 word phrase, 0x and 64 hex digits, or a development path such as //Alice",
);

/// Every code of this room.
pub const CODES: &[Code] = &[
    RATE_LIMITED,
    CERTIFICATE,
    STALLED,
    DIVERGED,
    UNREACHABLE,
    TIMEOUT,
    RPC_REFUSED,
    ANSWER_INVALID,
    BLOCK_UNKNOWN,
    STATE_PRUNED,
    ARCHIVE_UNREACHABLE,
    WRONG_NETWORK,
    ENDPOINT_INVALID,
    RUNTIME_UNKNOWN,
    EXTRINSIC_EXPIRED,
    POOL_REFUSED,
    BALANCE_TOO_LOW,
    NOT_REGISTERED,
    COMMIT_NOT_ALLOWED,
    COMMIT_SPACE,
    ALREADY_REGISTERED,
    REGISTRATION_CLOSED,
    WRONG_COLDKEY,
    SUBNET_MISSING,
    STAKE_TOO_LOW,
    NO_PERMIT,
    TOO_FAST,
    VERSION_KEY,
    WEIGHTS_INVALID,
    COMMIT_REVEAL_ON,
    COMMIT_REVEAL_OFF,
    COMMIT_VERSION,
    COMMITS_OPEN,
    REVEAL_ROUND,
    REVEAL_REFUSED,
    MECHANISM_MISSING,
    CALL_FAILED,
    COMMITMENT_MALFORMED,
    COMMITMENT_FULL,
    COMMITMENT_UNKNOWN,
    WALLET_MISSING,
    WALLET_UNREADABLE,
    WALLET_MALFORMED,
    WALLET_ENCRYPTED,
    WALLET_PASSWORD_WRONG,
    WALLET_PASSWORD_UNUSABLE,
    WALLET_MEMORY,
    WALLET_MISMATCH,
    WALLET_UNSUPPORTED,
    WALLET_ED25519,
    WALLET_IS_COLDKEY,
    WALLET_EXISTS,
    KEY_INVALID,
];

/// The code that an error name of the chain belongs to.
#[must_use]
pub(super) fn code_of(chain_name: &str) -> Code {
    match chain_name {
        "HotKeyNotRegisteredInSubNet" | "HotKeyNotRegisteredInNetwork" | "HotKeyAccountNotExists" => NOT_REGISTERED,
        "AccountNotAllowedCommit" => COMMIT_NOT_ALLOWED,
        "SpaceLimitExceeded" => COMMIT_SPACE,
        "HotKeyAlreadyRegisteredInSubNet" => ALREADY_REGISTERED,
        "SubNetRegistrationDisabled"
        | "RegistrationNotPermittedOnRootSubnet"
        | "NoNeuronIdAvailable"
        | "TooManyRegistrationsThisBlock"
        | "TooManyRegistrationsThisInterval" => REGISTRATION_CLOSED,
        "NonAssociatedColdKey" => WRONG_COLDKEY,
        "SubnetNotExists" | "CanNotSetRootNetworkWeights" => SUBNET_MISSING,
        "MechanismDoesNotExist" => MECHANISM_MISSING,
        super::weights::COMMIT_REVEAL => COMMIT_REVEAL_ON,
        "CommitRevealDisabled" => COMMIT_REVEAL_OFF,
        "IncorrectCommitRevealVersion" => COMMIT_VERSION,
        "TooManyUnrevealedCommits" => COMMITS_OPEN,
        "InvalidRevealRound" => REVEAL_ROUND,
        "NoWeightsCommitFound"
        | "ExpiredWeightCommit"
        | "InvalidRevealCommitHashNotMatch"
        | "RevealTooEarly"
        | "CommitNotInRevealRange" => REVEAL_REFUSED,
        "NotEnoughStakeToSetWeights" => STAKE_TOO_LOW,
        "NotEnoughBalanceToStake" | "BalanceTooLow" | "Payment" | "FundsUnavailable" => BALANCE_TOO_LOW,
        "NeuronNoValidatorPermit" => NO_PERMIT,
        "SettingWeightsTooFast" | "RateLimitExceeded" | "TxRateLimitExceeded" | "CommittingWeightsTooFast" => TOO_FAST,
        "IncorrectWeightVersionKey" => VERSION_KEY,
        "WeightVecNotEqualSize"
        | "UidsLengthExceedUidsInSubNet"
        | "DuplicateUids"
        | "UidVecContainInvalidOne"
        | "WeightVecLengthIsLow"
        | "MaxWeightExceeded"
        | "WeightsNotUpscaled"
        | "InputLengthsUnequal" => WEIGHTS_INVALID,
        _ => CALL_FAILED,
    }
}

/// The chain's own name behind `Custom error: N` of the transaction pool.
#[must_use]
pub(super) const fn custom_name(number: u8) -> &'static str {
    match number {
        0 => "ColdkeySwapScheduled",
        1 => "NotEnoughStakeToSetWeights",
        2 => "BalanceTooLow",
        3 => "SubnetNotExists",
        4 => "HotKeyAccountNotExists",
        6 => "RateLimitExceeded",
        10 => "HotKeyNotRegisteredInNetwork",
        11 => "InvalidIpAddress",
        12 => "ServingRateLimitExceeded",
        13 => "InvalidPort",
        15 => "InvalidRevealRound",
        16 => "NoWeightsCommitFound",
        17 => "CommitNotInRevealRange",
        18 => "InputLengthsUnequal",
        19 => "HotKeyNotRegisteredInSubNet",
        25 => "NonAssociatedColdKey",
        _ => "BadRequest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        for (place, code) in CODES.iter().enumerate() {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(code.name.bytes().all(is_plain), "{}", code.name);
            assert!(!code.says.ends_with('.') && !code.hint.ends_with('.'), "{}", code.name);
            assert!(!CODES[..place].iter().any(|other| other.name == code.name), "{} twice", code.name);
        }
    }

    #[test]
    fn a_miners_mistake_is_not_ours() {
        assert_eq!(code_of("AccountNotAllowedCommit").class, Class::Miner);
        assert_eq!(code_of(custom_name(19)).name, "chain_hotkey_not_registered");
        assert_eq!(code_of("SettingWeightsTooFast").class, Class::Infra);
        assert_eq!(code_of("SomethingNew").name, "chain_call_failed");
    }
}
