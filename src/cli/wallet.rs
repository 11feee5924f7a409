//! `waag wallet`: the keys on this machine, made, shown and used, and never given away.
//!
//! Owns words and arguments. Refuses to print any secret but the words of a new key, once, on a terminal.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::{
    Context, Failure, Outcome,
    exit::{answer, note, table},
};
use crate::{
    chain::{
        Account, Keypair, Wallet, WalletError, verify,
        wallet::{self, KeyView, NewKey, WalletView},
    },
    fault::{Class, Code},
};

/// What stands around a message that is signed as such. Neither a call of the chain nor a request to an appliance
/// begins like this, so that no signature of a message can be used as one of these; other wallets do the same.
const AROUND: (&str, &str) = ("<Bytes>", "</Bytes>");
/// Bytes of a message: a long letter.
const MESSAGE_BYTES: usize = 64 * 1024;

/// A signature is not of this message by this key.
pub const SIGNATURE_WRONG: Code = Code::new(
    Class::Operator,
    "signature_wrong",
    "the signature is not one of this message by this key",
    "compare address, message and signature with what the signer gave, character by character",
);

/// Arguments of `waag wallet`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag wallet list                               every wallet and hotkey, with addresses and warnings
  waag wallet show owner --unlock                opens encrypted keys too, and proves each address
  waag wallet create --wallet.name owner --wallet.hotkey validator
  waag wallet create --hotkey-only               beside a coldkey that is kept elsewhere
  waag wallet sign --message \"it is me\"          shows that one holds the hotkey
  waag wallet verify ADDRESS SIGNATURE --message \"it is me\"

Files are those of Bittensor's own wallets, in every form these have had. A password is taken from --password-file, \
else from the variable BT_PW_<PATH OF THE FILE> as those wallets write it, else it is asked for on the terminal.")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Clone, Subcommand)]
enum Act {
    /// List the wallets and hotkeys on this machine
    #[command(after_help = "\
Examples:
  waag wallet list
  waag wallet list --wallet.path /srv/wallets --json")]
    List,
    /// Show one wallet: addresses, forms and what is wrong, never a secret
    #[command(after_help = "\
Examples:
  waag wallet show                               the configured one
  waag wallet show owner --unlock                opens encrypted keys too, and proves each address
  waag wallet show owner --json")]
    Show {
        /// Its name [default: --wallet.name]
        name: Option<String>,
        /// Open encrypted keys too, to prove their addresses
        #[arg(long)]
        unlock: bool,
    },
    /// Make the missing keys of a wallet: the coldkey encrypted, the hotkey plain
    #[command(after_help = "\
Examples:
  waag wallet create --wallet.name owner --wallet.hotkey validator
  waag wallet create --hotkey-only               beside a coldkey that is kept elsewhere
  waag wallet create --json                      with --password-file, for scripts")]
    Create(Create),
    /// Sign a text with the hotkey
    #[command(after_help = "\
Examples:
  waag wallet sign --message \"it is me\"
  waag wallet sign --coldkey --message \"it is me\" --json")]
    Sign {
        /// The text
        #[arg(long, value_name = "TEXT")]
        message: String,
        /// Sign with the coldkey instead
        #[arg(long)]
        coldkey: bool,
    },
    /// Check a signature; exit code 1 when it is wrong
    #[command(after_help = "\
Examples:
  waag wallet verify ADDRESS SIGNATURE --message \"it is me\"
  waag wallet verify ADDRESS SIGNATURE --message \"it is me\" --json")]
    Verify {
        /// Who signed
        address: Account,
        /// The signature in hex
        signature: String,
        /// The text
        #[arg(long, value_name = "TEXT")]
        message: String,
    },
}

/// What is to be made, and how it is kept.
#[derive(Debug, Clone, clap::Args)]
struct Create {
    /// Make no coldkey
    #[arg(long)]
    hotkey_only: bool,
    /// Keep the coldkey in plain form: whoever reads the file owns the funds
    #[arg(long, conflicts_with = "hotkey_only")]
    no_password: bool,
}

/// Runs the verb.
///
/// # Errors
/// When a file is not what it should be, or a signature is wrong.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.act {
        Act::List => list(context),
        Act::Show { name, unlock } => show(context, name.as_deref(), *unlock),
        Act::Create(what) => create(context, what),
        Act::Sign { message, coldkey } => sign(context, message, *coldkey),
        Act::Verify { address, signature, message } => check(context, address, signature, message),
    }
}

fn list(context: &Context) -> Outcome {
    let configured = context.configured()?;
    let path = &configured.settings().wallet.path;
    let wallets = match wallet::list(path) {
        Err(WalletError::Missing { .. }) => Vec::new(),
        found => found?,
    };
    answer(context.json(), &json!({ "path": path, "wallets": wallets }), || match wallets.as_slice() {
        [] => format!("no wallet in {}", path.display()),
        some => in_words(some),
    });
    Ok(())
}

fn show(context: &Context, name: Option<&str>, unlock: bool) -> Outcome {
    let configured = context.configured()?;
    let settings = &configured.settings().wallet;
    let named = Wallet::new(&settings.path, name.unwrap_or(&settings.name), &settings.hotkey)?;
    if !named.folder().is_dir() {
        return Err(WalletError::Missing { path: named.folder().to_owned() }.into());
    }
    let passwords = unlock.then(|| context.passwords().source());
    let found = wallet::look(named.folder(), passwords.as_deref());
    let fault = found.coldkey.iter().chain(&found.hotkeys).find_map(|key| key.fault.clone());
    let mut document = serde_json::to_value(&found).unwrap_or_default();
    if let (Some(fault), Some(fields)) = (&fault, document.as_object_mut()) {
        // The document of a verb that fails has these two, whatever else it tells.
        fields.insert("error".to_owned(), json!(fault));
        fields.insert("exit".to_owned(), json!(Failure::from(fault.clone()).exit));
    }
    answer(context.json(), &document, || in_words(std::slice::from_ref(&found)));
    fault.map_or(Ok(()), |fault| Err(Failure::from(fault).told()))
}

fn in_words(wallets: &[WalletView]) -> String {
    let mut rows = Vec::new();
    let mut remarks = Vec::new();
    for wallet in wallets {
        let hotkeys = wallet.hotkeys.iter().map(|key| (format!("hotkeys/{}", key.name), key));
        for (name, key) in wallet.coldkey.iter().map(|key| ("coldkey".to_owned(), key)).chain(hotkeys) {
            rows.push(row(&wallet.name, name, key));
            let place = key.file.display();
            remarks.extend(key.warnings.iter().map(|warning| format!("warning: {place}: {warning}")));
            remarks.extend(key.fault.iter().map(|fault| format!("error: {} ({})", fault.detail, fault.code)));
        }
        if wallet.coldkey.is_none() && wallet.hotkeys.is_empty() {
            rows.push(vec![wallet.name.clone(), "no key".to_owned()]);
        }
    }
    let mut text = table(&["wallet", "key", "address", "secret", "kind", "proved"], &rows);
    if !remarks.is_empty() {
        text.push_str("\n\n");
        text.push_str(&remarks.join("\n"));
    }
    text
}

fn row(wallet: &str, name: String, key: &KeyView) -> Vec<String> {
    let address = key.address.map_or_else(|| "?".to_owned(), |address| address.to_string());
    let proved = if key.proved { "yes" } else { "no" };
    let kind = key.kind.unwrap_or("?");
    vec![wallet.to_owned(), name, address, key.secret.as_str().to_owned(), kind.to_owned(), proved.to_owned()]
}

/// A key that was made.
#[derive(Debug, Serialize)]
struct Made {
    name: &'static str,
    address: Account,
    file: PathBuf,
}

fn create(context: &Context, what: &Create) -> Outcome {
    let configured = context.configured()?;
    let wallet = context.wallet(configured.settings())?;
    let (hotkey, coldkey) = (wallet.hotkey_path(), wallet.coldkey_path());
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let wants_coldkey = !what.hotkey_only && !is_there(&coldkey);
    if is_there(&hotkey) && !wants_coldkey {
        return Err(WalletError::Exists { path: hotkey }.into());
    }
    let mut made = Vec::new();
    if wants_coldkey {
        let key = make_coldkey(context, &wallet, what.no_password)?;
        made.push(Made { name: "coldkey", address: key.account(), file: coldkey });
    }
    if !is_there(&hotkey) {
        let key = make_hotkey(context, &wallet)?;
        made.push(Made { name: "hotkey", address: key.account(), file: hotkey });
    }
    answer(context.json(), &json!({ "made": made }), || {
        let rows: Vec<_> = made
            .iter()
            .map(|made| vec![made.name.to_owned(), made.address.to_string(), made.file.display().to_string()])
            .collect();
        table(&["made", "address", "file"], &rows)
    });
    Ok(())
}

/// Makes the hotkey of a wallet, in plain form, and says so.
///
/// # Errors
/// When one of its files exists or cannot be written.
pub fn make_hotkey(context: &Context, wallet: &Wallet) -> Result<Keypair, Failure> {
    tell(context, &wallet.hotkey_path(), false);
    Ok(wallet.create_hotkey(&context.entropy)?.keypair)
}

/// Makes the coldkey of a wallet, encrypted unless it is to be `plain`, and shows its words to whoever sits there.
///
/// # Errors
/// When one of its files exists or cannot be written, or nobody gives a password.
pub fn make_coldkey(context: &Context, wallet: &Wallet, plain: bool) -> Result<Keypair, Failure> {
    let path = wallet.coldkey_path();
    if plain {
        tell(context, &path, false);
        return Ok(wallet.create_plain_coldkey(&context.entropy)?.keypair);
    }
    let Some(password) = context.passwords().new_password(&path)? else {
        let mut fault =
            WalletError::Password { detail: format!("none was given for the new {}", path.display()) }.fault();
        "give `--password-file FILE`; `--no-password` keeps a key of little value in plain form"
            .clone_into(&mut fault.hint);
        return Err(fault.into());
    };
    tell(context, &path, true);
    let NewKey { keypair, phrase } = wallet.create_coldkey(&context.entropy, &password)?;
    if !context.json() && io::stderr().is_terminal() {
        note(format_args!(
            "\nThese words are the coldkey. They are shown once: write them down, and keep them away from this \
             machine.\n\n    {}\n",
            phrase.reveal()
        ));
    }
    Ok(keypair)
}

fn tell(context: &Context, path: &Path, encrypted: bool) {
    let owner = if encrypted { "whoever reads this file and knows the password" } else { "whoever reads this file" };
    if !context.json() {
        note(format_args!("making `{}`: {owner} owns the key", path.display()));
    }
}

fn sign(context: &Context, message: &str, with_coldkey: bool) -> Outcome {
    let text = message_of(message)?;
    let configured = context.configured()?;
    let wallet = context.wallet(configured.settings())?;
    let key = if with_coldkey { wallet.coldkey()? } else { wallet.hotkey()? };
    let signature = format!("0x{}", hex::encode(key.sign(wrapped(text).as_bytes())));
    let document = json!({ "address": key.account(), "message": text, "signature": signature });
    answer(context.json(), &document, || signature.clone());
    if !context.json() {
        note(format_args!("by {}; anyone can check it with `waag wallet verify`", key.account()));
    }
    Ok(())
}

fn check(context: &Context, address: &Account, signature: &str, message: &str) -> Outcome {
    let text = message_of(message)?;
    let mut bytes = [0; 64];
    hex::decode_to_slice(signature.strip_prefix("0x").unwrap_or(signature), &mut bytes)
        .map_err(|_source| Failure::usage("a signature is 64 bytes of hex"))?;
    // Some wallets sign the bare text.
    let fits = [wrapped(text), text.to_owned()].iter().any(|signed| verify(address, signed.as_bytes(), &bytes));
    if !fits {
        return Err(Failure::check(SIGNATURE_WRONG.because(format!("it is not by {address}"))));
    }
    answer(context.json(), &json!({ "address": address, "message": text, "valid": true }), || {
        format!("signed by {address}")
    });
    Ok(())
}

fn message_of(message: &str) -> Result<&str, Failure> {
    if message.len() > MESSAGE_BYTES {
        return Err(Failure::usage(format!("the message has {} bytes, of {MESSAGE_BYTES}", message.len())));
    }
    Ok(message)
}

fn wrapped(message: &str) -> String {
    format!("{}{message}{}", AROUND.0, AROUND.1)
}
