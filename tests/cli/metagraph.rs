//! `waag metagraph` and what the doctor says of chain and clock.

use super::{devnet::Devnet, folder, run};

#[test]
fn it_shows_every_field_of_everybody_at_any_block() {
    let dir = folder();
    let devnet = Devnet::start(dir.path(), &["--manual"]);
    let ask = |args: &[&str]| run(dir.path(), &[&devnet.flags()[..], &["metagraph"], args].concat());
    let said = ask(&["--json"]);
    assert_eq!(said.exit, 0, "{said:?}");
    let document = said.json();
    let neurons = document["neurons"].as_array().expect("a list");
    let validator = neurons.iter().find(|neuron| neuron["permit"] == true).expect("the devnet has a validator");
    assert_eq!(validator["stake"], 1_000_000_000_000_u64);
    for field in [
        "uid",
        "hotkey",
        "coldkey",
        "registered_at",
        "last_update",
        "permit",
        "active",
        "stake",
        "incentive",
        "dividends",
        "emission",
        "consensus",
        "validator_trust",
        "axon",
    ] {
        assert!(validator.get(field).is_some(), "{field} is missing in {validator}");
    }
    assert_eq!(validator["axon"], serde_json::Value::Null);
    let hotkey = validator["hotkey"].as_str().expect("an address");
    let one = ask(&["--of", hotkey]);
    assert!(one.stdout.contains(hotkey) && one.stdout.contains("1000.0000"), "{}", one.stdout);
    let table = ask(&["--sort", "stake"]);
    assert!(table.stdout.contains("incentive") && table.stdout.contains(" P "), "{}", table.stdout);

    let by_hash = ask(&["--json", "--at", document["hash"].as_str().expect("a hash")]);
    assert_eq!(by_hash.json(), document);
    // Before the subnet was made, after the newest block, and nobody.
    assert_eq!(ask(&["--json", "--at", "0"]).json()["error"]["code"], "chain_subnet_missing");
    assert_eq!(ask(&["--json", "--at", "9999"]).json()["error"]["code"], "chain_block_unknown");
    assert_eq!(ask(&["--json", "--at", "noon"]).exit, 2);
    let nobody = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty";
    assert_eq!(ask(&["--json", "--of", nobody]).exit, 2);
}

#[test]
fn the_doctor_looks_at_the_clock_with_and_without_a_chain() {
    let dir = folder();
    let line = |args: &[&str], what: &str| {
        let said = run(dir.path(), &[args, &["doctor", "--json"]].concat());
        let lines = said.json()["checks"].as_array().expect("a list").clone();
        let line = lines.iter().find(|line| line["what"] == what);
        line.unwrap_or_else(|| panic!("no {what} in {}", said.stdout))["found"].as_str().expect("text").to_owned()
    };
    assert!(line(&["--network", "ws://127.0.0.1:1"], "clock").contains("nothing to compare"));
    let devnet = Devnet::start(dir.path(), &["--manual"]);
    assert!(line(&devnet.flags(), "clock").contains("a devnet counts a time of its own"));
    // Each of several endpoints is looked at alone.
    let several = format!("{},ws://127.0.0.1:1", devnet.url);
    let found = line(&["--network", "devnet", "--subtensor.chain-endpoint", &several], "endpoint");
    assert!(found.contains(&devnet.url) && found.contains("block "), "{found}");
}
