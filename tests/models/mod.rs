//! Models from their commitments to the verdict on whose they are: real files over a real socket, and the stages of the
//! program.

mod ground;
mod whole;

use std::{fs, sync::atomic::Ordering};

use ground::Ground;
use serde_json::json;
use waag::{
    dedup::generate::{
        Model,
        disguise::Disguise,
        rng::Rng,
        synthetic::{self, Recipe},
    },
    ids::Digest,
    pipeline::Error,
};

fn base() -> Model {
    synthetic::base(4, 1)
}

/// An honest fine-tune on data of its own.
fn tuned(seed: u64) -> Model {
    synthetic::tune(&base(), &Recipe { seed, data: seed, common: 0.0, size: 0.1, rank: None, only: &[] })
}

fn disguised(victim: &Model, disguise: Disguise) -> Model {
    disguise.apply(victim, &base(), &tuned(99), &mut Rng::new(5))
}

#[tokio::test]
async fn a_copy_is_refused_and_names_its_victim_and_honest_models_go_on() {
    let ground = Ground::open("", Some(&base())).await;
    let first = ground.publish("alice/model-a", &tuned(1));
    let second = ground.publish("bob/model-b", &tuned(2));
    let noisy = ground.publish("carol/model-c", &disguised(&tuned(1), Disguise::Relative(1e-3)));
    let a = ground.commit(10, 100, &first).await;
    let b = ground.commit(20, 101, &second).await;
    let c = ground.commit(30, 102, &noisy).await;
    // A sibling of the owner's may be as like as it likes.
    let own = ground.publish("alice/model-a2", &disguised(&tuned(1), Disguise::Relative(1e-4)));
    let a2 = ground.commit(11, 103, &own).await;
    ground.rest().await;
    for honest in [a, b, a2] {
        assert_eq!(ground.stand(honest).await, ("waiting".to_owned(), String::new(), 1), "{honest}");
    }
    assert_eq!(ground.stand(c).await, ("rejected".to_owned(), "duplicate".to_owned(), 1));
    let evidence = ground.evidence(c).await;
    assert_eq!(evidence["duplicate_of_submission"], json!(a));
    assert_eq!(evidence["duplicate_of"], json!(format!("v1|alice/model-a|sha256:{}", first.digest)));
    assert_eq!(evidence["verdict"]["relation"], "copy");
    assert_eq!(evidence["reference"], "base");
    assert_eq!(ground.evidence(b).await["verdict"]["relation"], "independent");
}

#[tokio::test]
async fn an_elder_that_comes_late_takes_back_what_its_copy_won() {
    let ground = Ground::open("wait_ms = 60000", Some(&base())).await;
    let original = ground.publish("alice/model-a", &tuned(1));
    let copy = ground.publish_in("bob/model-b", &tuned(1), 3);
    ground.shut.lock().unwrap().insert("alice/model-a".to_owned());
    let a = ground.commit(10, 100, &original).await;
    let b = ground.commit(20, 101, &copy).await;
    ground.rest().await;
    // The elder waits for its retry, which keeps nobody waiting; a source that is down is nobody's fault.
    assert_eq!(ground.stand(a).await, ("retry".to_owned(), "list_files_failed".to_owned(), 0));
    assert_eq!(ground.stand(b).await, ("waiting".to_owned(), String::new(), 1));
    ground.shut.lock().unwrap().clear();
    ground.advance_ms(2_000);
    ground.rest().await;
    assert_eq!(ground.stand(a).await, ("waiting".to_owned(), String::new(), 1));
    assert_eq!(ground.stand(b).await, ("rejected".to_owned(), "duplicate".to_owned(), 1));
    let evidence = ground.evidence(b).await;
    assert_eq!(evidence["duplicate_of_submission"], json!(a));
    assert_eq!(evidence["verdict"]["kind"], "repacked");
}

#[tokio::test]
async fn a_younger_one_waits_for_its_elders_but_not_for_ever() {
    let ground = Ground::open("wait_ms = 60000", Some(&base())).await;
    let younger = ground.publish("bob/model-b", &tuned(2));
    let b = ground.commit(20, 101, &younger).await;
    // The younger passes its checks first, then an elder turns up, found in an older block.
    assert!(ground.step().await);
    assert_eq!(ground.stand(b).await, ("queued".to_owned(), String::new(), 1));
    let elder = ground.publish("alice/model-a", &tuned(1));
    let a = ground.commit(10, 100, &elder).await;
    let held = ground.pipeline.claim().await.unwrap().expect("the elder is looked at first");
    assert_eq!(held.submission.id, a);
    assert!(ground.pipeline.claim().await.unwrap().is_none(), "the younger waits");
    ground.advance_ms(60_001);
    let next = ground.pipeline.claim().await.unwrap().expect("and no longer than it must");
    assert_eq!(next.submission.id, b);
    assert_eq!(next.work.peers, []);
    // One at a time, whoever it is.
    let challenge = ground.pipeline.challenge("models").unwrap();
    let outcome = challenge.steps[0].stage.run(&held.work).await;
    ground.pipeline.finish(&held, outcome).await.unwrap();
    assert!(ground.pipeline.claim().await.unwrap().is_none());
    let outcome = challenge.steps[1].stage.run(&next.work).await;
    ground.pipeline.finish(&next, outcome).await.unwrap();
    let last = ground.pipeline.claim().await.unwrap().expect("its turn");
    assert_eq!((last.submission.id, last.work.peers.len()), (a, 1));
}

#[tokio::test]
async fn who_was_first_with_a_digest_owns_it() {
    let ground = Ground::open("", Some(&base())).await;
    let model = ground.publish("alice/model-a", &tuned(1));
    let late = ground.commit(30, 103, &model).await;
    let early = ground.commit(10, 100, &model).await;
    // Another hotkey of the same owner.
    let own = ground.commit(11, 104, &model).await;
    ground.rest().await;
    assert_eq!(ground.stand(early).await.0, "waiting");
    assert_eq!(ground.stand(own).await.0, "waiting");
    assert_eq!(ground.stand(late).await, ("rejected".to_owned(), "duplicate".to_owned(), 1));
    assert_eq!(ground.evidence(late).await["duplicate_of_submission"], json!(early));
}

#[tokio::test]
async fn the_published_rule_is_there_for_subnets_that_use_it() {
    let ground = Ground::open(r#"verdict = "norms""#, None).await;
    let first = ground.publish("alice/model-a", &tuned(1));
    let same = ground.publish_in("bob/model-b", &tuned(1), 3);
    let noisy = ground.publish("carol/model-c", &disguised(&tuned(1), Disguise::Ulp(1.0)));
    let a = ground.commit(10, 100, &first).await;
    let b = ground.commit(20, 101, &same).await;
    let c = ground.commit(30, 102, &noisy).await;
    ground.rest().await;
    assert_eq!(ground.stand(a).await.0, "waiting");
    assert_eq!(ground.stand(b).await, ("rejected".to_owned(), "duplicate".to_owned(), 1));
    let evidence = ground.evidence(b).await;
    assert_eq!((evidence["similarity"].as_f64(), evidence["threshold"].as_f64()), (Some(1.0), Some(0.95)));
    // It is what the rule does: steps of the last bit pass it.
    assert_eq!(ground.stand(c).await.0, "waiting");
}

#[tokio::test]
async fn faults_are_whose_they_are_and_rejections_carry_what_shows_them() {
    let ground = Ground::open("", Some(&base())).await;
    let named_badly = ground.publish("alice/other", &tuned(1));
    let missing = ground.publish("bob/model-gone", &tuned(2));
    fs::remove_dir_all(ground.folder("bob/model-gone")).unwrap();
    let extra = ground.publish("carol/model-extra", &tuned(3));
    let folder = ground.folder("carol/model-extra");
    fs::write(folder.join("run.py"), "boo").unwrap();
    let extra = ground::Published { digest: ground::sealed(&folder), ..extra };
    let down = ground.publish("dave/model-d", &tuned(4));
    ground.shut.lock().unwrap().insert("dave/model-d".to_owned());
    let changed = ground.publish("erin/model-e", &tuned(5));
    let shard = ground.folder("erin/model-e").join("model-00001-of-00002.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let mut ids = Vec::new();
    for (miner, one) in [(10, &named_badly), (20, &missing), (30, &extra), (40, &down), (50, &changed)] {
        ids.push(ground.commit(miner, 100 + u64::from(miner), one).await);
    }
    ground.rest().await;
    let codes = ["repo_naming", "repo_not_found", "file_manifest", "list_files_failed", "download_failed"];
    for ((id, code), status) in ids.iter().zip(codes).zip(["rejected", "rejected", "rejected", "retry", "retry"]) {
        assert_eq!(ground.stand(*id).await, (status.to_owned(), code.to_owned(), 0), "{id}");
    }
    let evidence = ground.evidence(ids[2]).await;
    assert_eq!(evidence["checks"][0]["name"], "invalid_ref");
    assert!(evidence["details"].to_string().contains("run.py"), "{evidence}");
    // Spent retries are ours to answer for, never the miner's.
    for _ in 0..5 {
        ground.advance_ms(2_000);
        ground.rest().await;
    }
    assert_eq!(ground.stand(ids[3]).await.0, "failed");
}

#[tokio::test]
async fn without_a_base_nothing_but_equal_contents_is_held_against_anybody() {
    let ground = Ground::open("", None).await;
    let first = ground.publish("alice/model-a", &tuned(1));
    let same = ground.publish_in("bob/model-b", &tuned(1), 3);
    let other = ground.publish("carol/model-c", &tuned(3));
    let a = ground.commit(10, 100, &first).await;
    let b = ground.commit(20, 101, &same).await;
    let c = ground.commit(30, 102, &other).await;
    ground.rest().await;
    assert_eq!(ground.stand(a).await.0, "waiting");
    assert_eq!(ground.stand(b).await.1, "duplicate");
    assert_eq!(ground.stand(c).await.0, "waiting");
    assert_eq!(ground.evidence(c).await["reference"], "none");
}

#[tokio::test]
async fn a_source_that_stays_on_the_line_holds_nobody_for_longer_than_it_may() {
    let ground = Ground::open("", Some(&base())).await;
    let model = ground.publish("alice/model-a", &tuned(1));
    let id = ground.commit(10, 100, &model).await;
    ground.stalled.lock().unwrap().insert("alice/model-a".to_owned());
    let wait = async {
        while ground.stalls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        ground.advance_ms(4 * 60 * 60 * 1000);
    };
    tokio::join!(ground.step(), wait);
    assert_eq!(ground.stand(id).await, ("retry".to_owned(), "download_failed".to_owned(), 0));
    ground.stalled.lock().unwrap().clear();
    ground.advance_ms(2_000);
    ground.rest().await;
    assert_eq!(ground.stand(id).await, ("waiting".to_owned(), String::new(), 1));
}

#[tokio::test]
async fn whoever_was_refused_for_the_sake_of_a_copy_is_looked_at_again() {
    let ground = Ground::open("", Some(&base())).await;
    let original = ground.publish("alice/model-a", &tuned(1));
    ground.shut.lock().unwrap().insert("alice/model-a".to_owned());
    let copy = ground.publish("bob/model-b", &disguised(&tuned(1), Disguise::Relative(1e-4)));
    let sibling = ground.publish("amy/model-a2", &disguised(&tuned(1), Disguise::Ulp(0.1)));
    let a = ground.commit(10, 100, &original).await;
    let b = ground.commit(20, 101, &copy).await;
    let a2 = ground.commit(11, 102, &sibling).await;
    ground.rest().await;
    assert_eq!(ground.stand(b).await.0, "waiting");
    assert_eq!(ground.evidence(a2).await["duplicate_of_submission"], json!(b));
    ground.shut.lock().unwrap().clear();
    ground.advance_ms(2_000);
    ground.rest().await;
    assert_eq!(ground.stand(b).await, ("rejected".to_owned(), "duplicate".to_owned(), 1));
    for own in [a, a2] {
        assert_eq!(ground.stand(own).await, ("waiting".to_owned(), String::new(), 1), "{own}");
    }
}

#[tokio::test]
async fn an_owner_stays_the_same_when_a_key_changes_hands() {
    let ground = Ground::open("", Some(&base())).await;
    let first = ground.publish("alice/model-a", &tuned(1));
    let second = ground.publish("alice/model-a2", &disguised(&tuned(1), Disguise::Relative(1e-3)));
    let third = ground.publish("alice/model-a3", &disguised(&tuned(1), Disguise::Relative(1e-4)));
    let a = ground.commit_of(10, 201, 100, &first).await;
    // The same hotkey under another coldkey, then another hotkey under that one.
    let a2 = ground.commit_of(10, 202, 101, &second).await;
    let a3 = ground.commit_of(12, 202, 102, &third).await;
    ground.rest().await;
    for own in [a, a2, a3] {
        assert_eq!(ground.stand(own).await, ("waiting".to_owned(), String::new(), 1), "{own}");
    }
}

#[tokio::test]
async fn what_is_not_made_of_the_base_goes_nowhere() {
    let ground = Ground::open("", Some(&base())).await;
    let mut renamed = tuned(1);
    renamed.tensors = renamed.tensors.into_iter().map(|(name, tensor)| (format!("my.{name}"), tensor)).collect();
    let a = ground.commit(10, 100, &ground.publish("alice/model-a", &renamed)).await;
    let b = ground.commit(20, 101, &ground.publish("bob/model-b", &base())).await;
    // Enough matrices for all memory there is, in a file of forty megabytes.
    let bomb = ground.publish("carol/model-c", &tuned(2));
    let folder = ground.folder("carol/model-c");
    let header =
        json!({"x.experts.up_proj": {"dtype": "BF16", "shape": [1_000_000, 1, 1], "data_offsets": [0, 2_000_000]}});
    let header = header.to_string();
    for shard in
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    {
        fs::remove_file(folder.join(shard)).unwrap();
    }
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; 2_000_000]].concat();
    fs::write(folder.join("model-00001-of-00001.safetensors"), bytes).unwrap();
    let map = json!({"metadata": {}, "weight_map": {"x.experts.up_proj": "model-00001-of-00001.safetensors"}});
    fs::write(folder.join("model.safetensors.index.json"), map.to_string()).unwrap();
    let c = ground.commit(30, 102, &ground::Published { digest: ground::sealed(&folder), ..bomb }).await;
    ground.rest().await;
    assert_eq!(ground.stand(a).await, ("rejected".to_owned(), "foreign_tensors".to_owned(), 1));
    assert_eq!(ground.stand(b).await, ("rejected".to_owned(), "duplicate".to_owned(), 1));
    assert_eq!(ground.stand(c).await, ("rejected".to_owned(), "fingerprint_too_large".to_owned(), 0));
}

#[tokio::test]
async fn a_full_disk_is_the_operators_and_lets_others_be_judged() {
    // Room for the base and one model.
    let ground = Ground::with_disk("", Some(&base()), 500_000).await;
    let a = ground.commit(10, 100, &ground.publish("alice/model-a", &tuned(1))).await;
    let b = ground.commit(20, 101, &ground.publish("bob/model-b", &tuned(2))).await;
    for _ in 0..2 {
        assert!(ground.step().await);
    }
    assert_eq!(ground.stand(a).await, ("waiting".to_owned(), String::new(), 1), "what is nearly done comes first");
    let before = ground.clock.sleepers();
    let wait = async {
        while ground.clock.sleepers() == before {
            tokio::task::yield_now().await;
        }
        ground.advance_ms(120_000);
    };
    tokio::join!(ground.step(), wait);
    assert_eq!(ground.stand(b).await, ("retry".to_owned(), "model_room_missing".to_owned(), 0));
}

#[tokio::test]
async fn of_what_a_hotkey_sends_the_eldest_and_the_newest_are_looked_at() {
    let ground = Ground::open("", Some(&base())).await;
    let mut ids = Vec::new();
    for seed in 1..=4 {
        let model = ground.publish(&format!("alice/model-{seed}"), &tuned(seed));
        // The third is found late, in an older block.
        let block = if seed == 3 { 50 } else { 100 + seed };
        ids.push(ground.commit(10, block, &model).await);
    }
    let mut stands = Vec::new();
    for id in &ids {
        stands.push(ground.stand(*id).await.0);
    }
    assert_eq!(stands, ["withdrawn", "withdrawn", "queued", "queued"]);
    ground.rest().await;
    for id in &ids[2..] {
        assert_eq!(ground.stand(*id).await.0, "waiting");
    }
}

#[tokio::test]
async fn fingerprints_are_kept_once_and_their_public_half_is_never_taken_back() {
    let ground = Ground::open("", Some(&base())).await;
    let model = ground.publish("alice/model-a", &tuned(1));
    for (miner, block) in [(10, 100), (11, 101)] {
        ground.commit(miner, block, &model).await;
    }
    ground.rest().await;
    assert!(ground.data.join("cache/models").join(model.digest.to_string()).join("config.json").is_file());
    let read = |sql: &'static str| ground.pipeline.store().db().read(move |conn| text(conn, sql));
    assert_eq!(read("SELECT count(*) || '' FROM fingerprints").await.unwrap(), "2", "the model's and the base's");
    let object: Digest = read("SELECT object FROM corpus ORDER BY seq DESC LIMIT 1").await.unwrap().parse().unwrap();
    let bytes = ground.pipeline.store().blobs().get(&object, 1_000_000).await.unwrap();
    let object: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(object["reference"], json!(format!("alice/model-a@sha256:{}", model.digest)));
    assert_eq!(object["layer_keys"].as_array().unwrap().len(), object["tensor_samples"].as_array().unwrap().len());
    for act in ["DELETE FROM corpus", "UPDATE corpus SET contents = ''"] {
        let wiped = ground.pipeline.store().db().write("wipe", move |tx| Ok::<_, Error>(tx.execute(act, [])?)).await;
        assert!(wiped.is_err(), "{act}");
    }
}

fn text(conn: &rusqlite::Connection, sql: &str) -> Result<String, Error> {
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}
