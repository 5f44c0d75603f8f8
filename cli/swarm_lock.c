/* Managers whose keys are locked: `shoal swarm unlock, unlock-key`. */
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/swarm.h"
#include "cli/tree.h"

#define KEY_MAX 1024 /* of what a person types or pipes in; a key has 52 characters */

static int get_key(struct cli *cli, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/swarm/unlockkey");
    int rc = cli_get(cli, &path, ret, e);
    return rc < 0 ? err_wrap(e, "could not fetch unlock key") : 0;
}

static void print_key(struct cli *cli, const char *key)
{
    printf("To unlock a swarm manager after it restarts, run the `%s swarm unlock`\ncommand and provide the "
           "following key:\n\n    %s\n\nRemember to store this key in a password manager, since without it you\n"
           "will not be able to restart the manager.\n",
           cli->program, key);
}

int swarm_print_unlock_key(struct cli *cli, struct err *e)
{
    AUTO_JSON json_t *answer = NULL;
    int rc = get_key(cli, &answer, e);

    if (rc == 0)
        print_key(cli, tree_text(answer, "UnlockKey"));
    return rc;
}

/* --- unlock-key -------------------------------------------------------------------------------------------------
 */

static const struct option unlock_key_options[] = {
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only the key"},
    {.name = "rotate", .type = &option_switch, .help = "Make a new key; managers no longer take the old one"},
    {0}};

static int rotate_key(struct cli *cli, struct err *e)
{
    AUTO_JSON json_t *swarm = NULL;
    int rc = swarm_get(cli, &swarm, e);

    if (rc < 0)
        return rc;
    if (!tree_bool(swarm, "Spec.EncryptionConfig.AutoLockManagers"))
        return err_set(e, ERR_CONFLICT, "cannot rotate because autolock is not turned on");
    return swarm_send(cli, swarm, ROTATE_UNLOCK_KEY, e);
}

static int run_unlock_key(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *answer = NULL;
    bool quiet = args_switch(args, "quiet");
    int rc = 0;

    if (args_switch(args, "rotate")) {
        rc = rotate_key(cli, e);
        if (rc == 0 && !quiet)
            printf("Successfully rotated manager unlock key.\n");
    }
    if (rc == 0)
        rc = get_key(cli, &answer, e);
    if (rc < 0)
        return rc;
    const char *key = tree_text(answer, "UnlockKey");
    if (!*key)
        return err_set(e, ERR_NOT_FOUND, "no unlock key is set");
    if (quiet)
        printf("%s\n", key);
    else
        print_key(cli, key);
    return 0;
}

/* --- unlock -----------------------------------------------------------------------------------------------------
 */

/* A line of standard input without blanks around it; what is typed at a terminal is asked for and not shown. */
static int read_key(char line[KEY_MAX], struct err *e)
{
    struct termios before, silent;
    bool hidden = tcgetattr(STDIN_FILENO, &before) == 0;

    if (hidden) {
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        silent.c_lflag |= ICANON | ISIG;
        printf("Enter unlock key: ");
        (void)fflush(stdout);
        hidden = tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0;
    }
    *line = '\0';
    bool whole = !fgets(line, KEY_MAX, stdin) || strlen(line) + 1 < KEY_MAX;
    if (hidden) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before); /* it may have gone */
        putchar('\n');
    }
    return whole ? 0 : err_set(e, ERR_LIMIT, "the unlock key is longer than %d characters", KEY_MAX - 2);
}

static int run_unlock(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *info = NULL;
    AUTO_JSON json_t *body = json_object();
    AUTO_BUF struct buf info_path = {0};
    AUTO_BUF struct buf path = {0};
    char line[KEY_MAX];

    path_add(&info_path, "/info");
    int rc = cli_get(cli, &info_path, &info, e);
    if (rc < 0)
        return rc;
    const char *state = tree_text(info, "Swarm.LocalNodeState");
    if (strcmp(state, "locked") != 0)
        return err_set(e, ERR_CONFLICT, "%s",
                       strcmp(state, "inactive") == 0 ? "Error: This node is not part of a swarm"
                                                      : "Error: swarm is not locked");
    rc = read_key(line, e);
    if (rc < 0)
        return rc;
    char *key = line + strspn(line, " \t");
    key[strcspn(key, " \t\r\n")] = '\0';
    tree_put_text(body, "UnlockKey", key);
    path_add(&path, "/swarm/unlock");
    rc = cli_post(cli, &path, body, NULL, e);
    explicit_bzero(line, sizeof(line));
    return rc;
}

const struct command swarm_unlock = {
    .name = "unlock", .usage = "", .summary = "Unlock this manager with the swarm's unlock key", .run = run_unlock};
const struct command swarm_unlock_key = {.name = "unlock-key",
                                         .usage = "[OPTIONS]",
                                         .summary = "Show or change the key that unlocks managers",
                                         .options = {unlock_key_options},
                                         .run = run_unlock_key};
