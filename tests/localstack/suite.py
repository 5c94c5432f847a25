"""Which of the tests run on LocalStack, too: all that ask something of the bucket or the queue.

What is about sign-in, the command line, engines and documents asks them for nothing new, nor do downloads,
webhooks and what has the shape of other services. By the names of files, whose tests get the marker
`localstack` where the servers are LocalStack.
"""

FILES = frozenset(
    {
        "crash/test_every_step",
        "crash/test_lost_answers",
        "crash/test_races",
        "integration/test_bucket",
        "integration/test_client",
        "integration/test_dead_letters",
        "integration/test_events",
        "integration/test_form_uploads",
        "integration/test_hostile_names",
        "integration/test_inbox",
        "integration/test_limits",
        "integration/test_live",
        "integration/test_probe",
        "integration/test_purge",
        "integration/test_renaming",
        "integration/test_setup",
        "integration/test_sweep",
        "integration/test_transcriptions",
        "integration/test_trouble",
        "integration/test_tus_protocol",
        "integration/test_uploading",
        "integration/test_working",
    }
)

OPEN = "LocalStack lets whoever sends no signature read and write: tests/localstack/test_doctor.py"
TRUNCATED = (
    "LocalStack leaves an empty object, with the whole one's ETag, when two complete an upload at once"
)

NOT_HERE = {
    "test_a_bucket_that_can_do_all_is_told_so": OPEN,
    "test_a_lock_that_many_can_take_is_found": OPEN,
    "test_what_the_keys_do_not_allow_to_look_at_is_unknown": OPEN,
    "test_what_minio_does_otherwise_is_covered_for": OPEN,
    "test_a_server_that_checks_no_signature_is_found_out": "about moto",
    "test_a_server_without_notifications_is_covered_for": "about SeaweedFS: LocalStack has them",
    "test_what_the_bucket_does_not_let_us_copy_fails_after_an_hour": "needs signed headers to be checked",
    "test_eight_completes_at_once_make_one_job": TRUNCATED,
    "test_two_sweeps_at_once_complete_an_interrupted_upload_once": TRUNCATED,
    "test_two_processes_that_resume_the_same_upload_finish_it_once": TRUNCATED,
    "test_a_bucket_that_goes_and_comes_back_is_waited_for": "LocalStack forgets everything when it is killed",
}
"""Why a test of these files cannot run here, by its name."""
