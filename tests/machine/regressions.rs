//! What the machine has found, as it had shrunk it.

use session_refresh_tests::backends::Backend;

use crate::{
    histories::{self, Round},
    machine::{RUNTIME, on_every_store},
    sequences::{self, Model},
    world::{Act, Ask, Fault, Hours, Layer, Policy, Process, Role, Said, Step, Stop},
};

/// How often a race is tried.
const TRIES: usize = 20;

fn process(skew: Hours, idle: Hours, max_lifetime: Option<Hours>) -> Process {
    let layer = Layer { idle, max_lifetime };
    Process {
        skew,
        layer,
        failures: 0,
    }
}

/// By the first browser, and nothing goes wrong.
fn ask(process: usize, policy: Policy, act: Act) -> Ask {
    Ask {
        client: 0,
        process,
        policy,
        act,
        stop: None,
        fault: None,
        is_shareable: false,
        is_lost: false,
    }
}

const LOG_IN: Act = Act::LogIn(Role::User, Said::Nothing);

mod once {
    use super::*;

    on_every_store!(again);

    fn again<B: Backend>() {
        let backend = RUNTIME.block_on(B::connect());
        for (processes, steps) in [
            a_first_touch_that_fails_is_counted(),
            a_session_ends_while_a_page_is_at_work(),
            the_activity_is_the_arrival(),
            a_lifetime_is_set_before_a_first_touch(),
        ] {
            let model = Model::new(processes);
            RUNTIME.block_on(sequences::follow_all(backend.clone(), model, steps));
        }
    }

    /// `CountingStore` did not count it.
    fn a_first_touch_that_fails_is_counted() -> ([Process; 2], Vec<Step>) {
        let late = Ask {
            fault: Some(Fault::TouchIsLate),
            ..ask(0, Policy::Unannotated, Act::Undo)
        };
        let steps = vec![
            Step::Ask(ask(1, Policy::Unannotated, Act::FlushAnew)),
            Step::Ask(late),
            Step::Pass(4),
            Step::Land(0),
        ];
        ([process(0, 48, Some(26)), process(0, 48, None)], steps)
    }

    /// By the database's clock. What was missing in the machine, since a mutant survived.
    fn a_session_ends_while_a_page_is_at_work() -> ([Process; 2], Vec<Step>) {
        let stopped = |policy, act| Ask {
            stop: Some(Stop::Handler),
            ..ask(0, policy, act)
        };
        let steps = vec![
            Step::Ask(ask(0, Policy::Unannotated, LOG_IN)),
            Step::Pass(24),
            Step::Ask(stopped(Policy::Active, Act::Write)),
            Step::Ask(stopped(Policy::Active, Act::Nothing)),
            Step::Ask(stopped(Policy::Passive, Act::Save)),
            Step::End(0),
            Step::Sweep,
            Step::GoOn(1),
            Step::GoOn(2),
            Step::GoOn(3),
        ];
        ([process(0, 48, None), process(0, 48, None)], steps)
    }

    /// What it was is not put back. A mutant survived at times.
    fn a_lifetime_is_set_before_a_first_touch() -> ([Process; 2], Vec<Step>) {
        let slow = Ask {
            stop: Some(Stop::LookUp),
            ..ask(1, Policy::SkipStaff, Act::Nothing)
        };
        let set = Act::SetExpiry(Said::Idle(700));
        let steps = vec![
            Step::Ask(ask(0, Policy::Unannotated, Act::FlushAnew)),
            Step::Pass(28),
            Step::Ask(slow),
            Step::Ask(ask(0, Policy::Unannotated, set)),
            Step::GoOn(1),
            Step::Ask(ask(0, Policy::Active, Act::Read)),
        ];
        ([process(0, 220, None), process(0, 220, Some(618))], steps)
    }

    /// However long the user's look-up takes.
    fn the_activity_is_the_arrival() -> ([Process; 2], Vec<Step>) {
        let slow = Ask {
            stop: Some(Stop::LookUp),
            ..ask(1, Policy::SkipSuperuser, Act::Write)
        };
        let steps = vec![
            Step::Ask(ask(0, Policy::Unannotated, LOG_IN)),
            Step::Pass(28),
            Step::Ask(slow),
            Step::Pass(4),
            Step::GoOn(1),
        ];
        (
            [process(0, 48, Some(626)), process(0, 312, Some(614))],
            steps,
        )
    }
}

mod races {
    use super::*;

    on_every_store!(again);

    fn again<B: Backend>() {
        let backend = RUNTIME.block_on(B::connect());
        for (processes, round) in [
            a_first_touch_and_a_write(),
            a_first_touch_and_a_login(),
            a_touch_and_a_login(),
        ] {
            for _ in 0..TRIES {
                let rounds = vec![round.clone()];
                RUNTIME.block_on(histories::explain(backend.clone(), processes, rounds));
            }
        }
    }

    /// The page was told an end that nobody had given the session, since the touch had lost to the write.
    fn a_first_touch_and_a_write() -> ([Process; 2], Round) {
        let round = Round {
            before: vec![
                Step::Ask(ask(0, Policy::Unannotated, Act::FlushAnew)),
                Step::Pass(76),
            ],
            at_once: vec![
                ask(0, Policy::SkipStaff, Act::Write),
                ask(1, Policy::Active, Act::Clear),
            ],
        };
        ([process(0, 220, None), process(8, 148, Some(618))], round)
    }

    /// The same of a session whose id was renewed meanwhile.
    fn a_first_touch_and_a_login() -> ([Process; 2], Round) {
        let idle = Act::LogIn(Role::User, Said::Idle(988));
        let round = Round {
            before: vec![Step::Ask(ask(1, Policy::Unannotated, Act::FlushAnew))],
            at_once: vec![
                ask(0, Policy::SkipSuperuser, Act::CycleId),
                ask(1, Policy::Active, idle),
                ask(1, Policy::Active, Act::Nothing),
            ],
        };
        ([process(0, 236, Some(430)), process(4, 148, None)], round)
    }

    /// The same where PostgreSQL passes over a row that somebody is deleting.
    fn a_touch_and_a_login() -> ([Process; 2], Round) {
        let round = Round {
            before: vec![
                Step::Ask(ask(1, Policy::Unannotated, LOG_IN)),
                Step::Pass(52),
            ],
            at_once: vec![
                ask(0, Policy::SkipSuperuser, LOG_IN),
                ask(1, Policy::SkipUnauthenticated, Act::Read),
            ],
        };
        (
            [process(4, 112, Some(950)), process(0, 208, Some(238))],
            round,
        )
    }
}
