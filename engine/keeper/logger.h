/* `shoal-keeper --log`: the process that writes containers' logs (DESIGN.md section 7). */
#pragma once

/* Serve the keeper at the other end of `channel` (a SOCK_SEQPACKET pair), and later ones that connect to the log
 * socket in the directory run_fd. Returns the exit status. */
int logger_main(int channel, int run_fd);
