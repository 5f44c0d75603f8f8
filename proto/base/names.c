/* See names.h. The words are our own choice: cheerful adjectives, and people to whom computing, mathematics,
 * medicine and the sky owe something. 96 x 128 names; with the digit 122,880. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/names.h"

static const char *const adjectives[] = {
    "agile",   "amber",   "ample",   "apt",      "ardent",  "artful",   "awake",   "balmy",  "bold",    "brave",
    "breezy",  "bright",  "brisk",   "calm",     "candid",  "careful",  "charmed", "cheery", "civil",   "clear",
    "clever",  "cosy",    "crisp",   "curious",  "daring",  "deft",     "devoted", "eager",  "earnest", "easy",
    "elated",  "elegant", "fair",    "fearless", "fine",    "fond",     "frank",   "free",   "fresh",   "funny",
    "gentle",  "glad",    "golden",  "graceful", "grand",   "happy",    "hardy",   "hearty", "honest",  "hopeful",
    "humble",  "jolly",   "keen",    "kind",     "lively",  "loyal",    "lucid",   "lucky",  "mellow",  "merry",
    "mild",    "modest",  "neat",    "nifty",    "nimble",  "noble",    "patient", "placid", "polite",  "proud",
    "quick",   "quiet",   "radiant", "ready",    "relaxed", "resolute", "robust",  "serene", "sharp",   "silent",
    "sincere", "smart",   "snug",    "sober",    "spry",    "stable",   "steady",  "sturdy", "sunny",   "swift",
    "tidy",    "vivid",   "warm",    "witty",    "young",   "zesty",
};

static const char *const surnames[] = {
    "abel",       "agnesi",       "aiken",      "alhazen",    "allen",      "ampere",        "apgar",
    "arago",      "archimedes",   "aryabhata",  "atanasoff",  "babbage",    "bardeen",       "bartik",
    "bayes",      "becquerel",    "bell",       "bernoulli",  "bessel",     "bhaskara",      "blackwell",
    "bohr",       "boltzmann",    "boole",      "borg",       "bose",       "brahe",         "brahmagupta",
    "cantor",     "carson",       "cartwright", "cauchy",     "cerf",       "chandrasekhar", "church",
    "clarke",     "codd",         "conway",     "copernicus", "cori",       "cray",          "curie",
    "dahl",       "darwin",       "dijkstra",   "dirac",      "easley",     "edison",        "einstein",
    "elion",      "engelbart",    "erdos",      "euclid",     "euler",      "faraday",       "fermat",
    "fermi",      "feynman",      "floyd",      "fourier",    "franklin",   "galileo",       "galois",
    "gauss",      "germain",      "goedel",     "goldberg",   "gray",       "hamilton",      "hamming",
    "hawking",    "heisenberg",   "herschel",   "hertz",      "hilbert",    "hoare",         "hodgkin",
    "hopper",     "hubble",       "huffman",    "huygens",    "hypatia",    "iverson",       "jacobi",
    "johnson",    "joule",        "kalman",     "kepler",     "khorana",    "kleene",        "knuth",
    "kolmogorov", "kovalevskaya", "lagrange",   "lamport",    "laplace",    "leavitt",       "leibniz",
    "liskov",     "lovelace",     "maxwell",    "mccarthy",   "mcclintock", "meitner",       "mendel",
    "mirzakhani", "napier",       "naur",       "neumann",    "newton",     "nightingale",   "noether",
    "pascal",     "pasteur",      "payne",      "perlman",    "planck",     "poincare",      "ramanujan",
    "riemann",    "ritchie",      "rubin",      "shannon",    "somerville", "turing",        "wilkes",
    "wirth",      "zuse",
};

void name_generate(struct entropy *e, unsigned attempt, char ret[NAME_GENERATED])
{
    const char *adjective = adjectives[entropy_below(e, ARRAY_SIZE(adjectives))];
    const char *surname = surnames[entropy_below(e, ARRAY_SIZE(surnames))];
    int length;

    if (attempt == 0)
        length = snprintf(ret, NAME_GENERATED, "%s_%s", adjective, surname);
    else
        length = snprintf(ret, NAME_GENERATED, "%s_%s%u", adjective, surname, (unsigned)entropy_below(e, 10));
    assert(length > 0 && length < NAME_GENERATED);
}
