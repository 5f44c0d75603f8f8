/* The program `shoal`: docker's commands over the Docker Engine API, and never anything else. Everything is in
 * cli.c and command.c, so that the tests can run it within their own process. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
