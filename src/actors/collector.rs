//! The collector: deletes models with which nobody counts any more, hourly and when one needs room.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::reconcile::chain_of;
use crate::{
    artifact::model::ModelCache,
    clock::Clock,
    pipeline::collection::{self, Error, Keep},
    store::Store,
};

/// How often it looks without being nudged.
const PERIOD: Duration = Duration::from_secs(3600);
/// How often while a model waits for room, or after a failure: what was kept for its grace alone goes as that ends.
const WAITED_FOR: Duration = Duration::from_secs(60);

/// Collects until the token is cancelled.
pub async fn collect_models(
    models: ModelCache,
    store: Store,
    clock: Arc<dyn Clock>,
    keep: Keep,
    token: CancellationToken,
) {
    while !token.is_cancelled() {
        let wait = match collect(&models, &store, clock.as_ref(), &keep).await {
            Ok(()) if models.disk().waits().models == 0 => PERIOD,
            Ok(()) => WAITED_FOR,
            Err(error) => {
                warn!(error = %chain_of(&error), "models cannot be collected; trying again");
                WAITED_FOR
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = models.disk().wanted() => {}
            () = clock.sleep(wait) => {}
        }
    }
}

async fn collect(models: &ModelCache, store: &Store, clock: &dyn Clock, keep: &Keep) -> Result<(), Error> {
    for one in collection::collect(models, store, keep, clock.now_ms()).await?.iter().filter(|one| one.delete) {
        let repo = one.entry.repo.as_deref().unwrap_or("unknown");
        info!(model = %one.entry.key, repo, bytes = one.entry.disk_bytes, reason = %one.reason, "deleted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::Notify;

    use super::*;
    use crate::{
        actors::Tasks,
        artifact::model::{Disk, Reference, Reserved, cache::key_of},
        clock::UnixMs,
        store,
    };

    /// A clock that stands, and says when somebody begins to wait.
    #[derive(Default)]
    struct Standing(Notify);

    #[async_trait]
    impl Clock for Standing {
        fn now_ms(&self) -> UnixMs {
            0
        }

        async fn sleep(&self, _duration: Duration) {
            self.0.notify_one();
            std::future::pending().await
        }
    }

    async fn write(store: &Store, sql: &'static str, digest: &str) {
        let digest = digest.to_owned();
        let written = store.db().write("a row", move |tx| {
            tx.execute(sql, rusqlite::named_params! {":digest": digest})?;
            Ok::<_, store::Error>(())
        });
        written.await.unwrap();
    }

    #[tokio::test]
    async fn a_model_that_waits_for_room_wakes_the_collector() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), store::Options::default()).await.unwrap();
        let clock = Arc::new(Standing::default());
        let models = ModelCache::open(dir.path(), clock.clone(), Disk::new(100)).unwrap();
        let of = |digit: &str| Reference::new("alice/m", &format!("sha256:{}", digit.repeat(64))).unwrap();
        let Reserved::Place(place) = models.reserve(&of("a"), 60).await.unwrap() else { panic!("it is new") };
        drop(place.finish().await.unwrap());
        let digest = key_of(&of("a")).to_string();
        write(
            &store,
            "INSERT INTO challenges (slug, profile, profile_digest, added_ms) VALUES ('c', '', :digest, 0)",
            &digest,
        )
        .await;
        write(
            &store,
            "INSERT INTO submissions (challenge, hotkey, coldkey, field, commit_block, commit_index, priority_block,
               priority_index, artifact, status, created_ms, updated_ms)
             VALUES ('c', 'h', 'k', 'f', 1, 1, 1, 1, :digest, 'running', 0, 0)",
            &digest,
        )
        .await;
        let tasks = Tasks::new();
        let keep = Keep::default();
        tasks.spawn(
            "collector",
            collect_models(models.clone(), store.clone(), clock.clone(), keep, tasks.token().clone()),
        );
        // It has looked, and would look again in an hour that never comes.
        clock.0.notified().await;
        assert!(models.find(&of("a")).is_some(), "its submission is under way");
        write(&store, "UPDATE submissions SET status = 'lost' WHERE artifact = :digest", &digest).await;
        let reserved = models.reserve(&of("b"), 70).await.unwrap();
        assert!(matches!(reserved, Reserved::Place(_)));
        assert!(models.find(&of("a")).is_none());
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, Vec::<&str>::new());
    }
}
