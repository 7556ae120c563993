//! Where a store of this crate stands: in a `LifetimeLayer`, or in a layer that can't touch.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::events;

/// What is known of it. Clones of a store share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Placement {
    /// No advice is to be given, since the store is in a layer that touches, or any more.
    is_settled: Arc<AtomicBool>,
}

impl Placement {
    pub(super) fn is_in_lifetime_layer(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
    }

    /// Reports once that another layer has asked for a session.
    pub(super) fn loads_for_another_layer(&self, store: &str) {
        // Looked at before it is written: each load of a page comes here.
        if !self.is_settled.load(Ordering::Relaxed)
            && !self.is_settled.swap(true, Ordering::Relaxed)
        {
            events::store_without_layer(store);
        }
    }
}
