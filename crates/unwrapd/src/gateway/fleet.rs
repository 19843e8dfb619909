//! Follows the other gateways on the store: new deliveries, pauses, circuits, membership and
//! configuration.

use std::sync::Arc;

use tokio::sync::watch;

use super::circuits::Circuits;
use super::peers::Peers;
use crate::admin::Targets;
use crate::progress::Board;
use crate::shutdown::Shutdown;
use crate::store::{Heard, Introduction, Store, StoreError};
use crate::wake::Bells;

pub(super) struct Fleet {
    pub(super) store: Arc<dyn Store>,
    pub(super) bells: Bells,
    pub(super) board: Board,
    pub(super) targets: Targets,
    pub(super) circuits: Circuits,
    /// The announcement of this gateway; it changes with the configuration.
    pub(super) introduction: watch::Receiver<Introduction>,
}

impl Fleet {
    /// Goes on until shutdown. A failing store does not end it.
    pub(super) async fn run(self, mut shutdown: Shutdown) {
        let store = Arc::clone(&self.store);
        let mut introduction = self.introduction.clone();
        let mut peers = Peers::default();
        peers.compare(&store.members());
        // Gone on with where it was left: what it has heard is not heard again.
        let mut hearing = store.heard();
        loop {
            let heard = tokio::select! {
                () = shutdown.begun() => return,
                Ok(()) = introduction.changed() => {
                    let introduction = introduction.borrow_and_update().clone();
                    if let Err(error) = store.introduce(introduction).await {
                        tracing::debug!("cannot announce the configuration of this gateway; the next heartbeat does: {error}");
                    }
                    Heard { members: true, ..Heard::default() }
                }
                () = self.circuits.findings.are_there() => Heard { circuits: true, ..Heard::default() },
                heard = &mut hearing => {
                    hearing = store.heard();
                    heard
                }
            };
            for (destination, lane) in &heard.due {
                self.bells.ring(destination, *lane);
            }
            if heard.pauses
                && let Err(error) = self.follow_pauses().await
            {
                tracing::debug!("cannot read the paused destinations: {error}");
            }
            if heard.circuits
                && let Err(error) = self.circuits.agree(&*self.store).await
            {
                tracing::debug!("cannot read which destinations are down: {error}");
            }
            if heard.members {
                peers.compare(&self.store.members());
                // Each has another part of the limits now.
                for name in self.board.all().keys() {
                    self.bells.ring_all(name);
                }
            }
        }
    }

    async fn follow_pauses(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.targets.hold_pauses().await;
        let paused = self.store.paused().await?;
        for (name, _) in &paused {
            // So that it is paused from the beginning, should it be configured later.
            drop(self.board.of(name));
        }
        for (name, progress) in self.board.all() {
            let is_paused = paused.iter().any(|(other, _)| *other == name);
            if progress.is_paused() != is_paused {
                progress.set_paused(is_paused);
                self.bells.ring_all(&name);
                let what = if is_paused { "paused" } else { "resumed" };
                tracing::info!(destination = name, "{what} at another gateway");
            }
        }
        Ok(())
    }
}
