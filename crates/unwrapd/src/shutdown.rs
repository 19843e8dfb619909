//! The wish to stop, heard by every part.

use tokio::sync::watch;

/// Hears the wish. Clone it for each part.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Speaks it. Dropping it speaks it too, so that no part outlives its gateway.
#[derive(Debug)]
pub struct ShutdownSwitch(watch::Sender<bool>);

/// A switch and what hears it.
#[must_use]
pub fn shutdown() -> (ShutdownSwitch, Shutdown) {
    let (switch, shutdown) = watch::channel(false);
    (ShutdownSwitch(switch), Shutdown(shutdown))
}

impl ShutdownSwitch {
    /// Everything is to stop.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether everything is to stop.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until everything is to stop.
    pub async fn begun(&mut self) {
        // An error means that the switch is gone.
        drop(self.0.wait_for(|is_begun| *is_begun).await);
    }
}
