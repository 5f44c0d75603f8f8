/* See pages.h. The layout is that of LMDB's data version 1 on a 64-bit little-endian machine, as its source
 * describes it:
 *
 *   page  0, 1   meta pages; the one with the higher transaction number counts, and its number says which page it
 * is branch page  header, then for each child a key and a page number; the first key means nothing leaf page
 * header, then for each record a key and its data, or the number of the overflow pages that hold it, or the root of
 * a named table free table   transaction number to a descending list of page numbers
 *
 * What is verified: every page reached says its own number and kind; headers and node offsets stay inside the page
 * and account for all its bytes; keys ascend, also against the keys of the branches above; the counts of pages,
 * levels and records are those the table's entry tells; no page is used twice or both used and free. A file that
 * passes cannot lead LMDB astray, as far as LMDB itself is right. Tables with duplicates (DUPSORT) are not handled:
 * the store has none.
 *
 * Pages are read with pread, not mapped: a file that shrinks or a disk that fails is an error, not a signal. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lmdb.h>

#include "manager/store/pages.h"
#include "proto/base/mem.h"

#define META_MAGIC   0xBEEFC0DEu
#define META_VERSION 1
#define NO_PAGE      UINT64_MAX
#define LEVELS_MAX   32        /* LMDB's own limit */
#define SPARE_PAGES  (1 << 20) /* free pages that may lie beyond the end of the file */

enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 };
enum { NODE_BIG = 1, NODE_TABLE = 2 };

struct page_header {
    uint64_t number;
    uint16_t pad, flags;
    union {
        struct {
            uint16_t lower, upper; /* of the free space */
        };
        uint32_t pages; /* of an overflow run */
    };
};

struct node {
    uint16_t low, high, flags, key_size;
};

struct table_entry { /* MDB_db */
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta {
    uint32_t magic, version;
    uint64_t address, map_bytes;
    struct table_entry free, main;
    uint64_t last_page, transaction;
};

struct key {
    const uint8_t *data; /* NULL: no bound */
    size_t size;
};

struct check {
    int fd;
    size_t page_size;
    uint64_t file_pages;
    struct meta meta;
    uint64_t *used; /* bit per page */
    const struct pages_table *tables;
    size_t table_count;
    struct table_entry *entries; /* of the tables, as found in the main one */
    bool *found;
    pages_each *each;
    void *ctx;
};

struct tree { /* one walk */
    struct check *check;
    struct table_entry entry;
    bool integer_keys;
    int (*record)(struct tree *t, const struct node *n, struct key key, const uint8_t *data, size_t size,
                  struct err *e);
    int table;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries; /* seen */
};

static int damaged(struct err *e, uint64_t page, const char *fault)
{
    return err_set(e, ERR_CORRUPT, "page %llu: %s", (unsigned long long)page, fault);
}

static int read_pages(struct check *c, uint64_t page, void *into, size_t bytes, struct err *e)
{
    size_t have = 0;

    while (have < bytes) {
        ssize_t got = pread(c->fd, (char *)into + have, bytes - have, (off_t)(page * c->page_size + have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, "read page %llu", (unsigned long long)page);
        if (got == 0)
            return damaged(e, page, "beyond the end of the file");
        have += (size_t)got;
    }
    return 0;
}

/* Take a page into use. */
static int mark(struct check *c, uint64_t page, struct err *e)
{
    if (page < 2 || page > c->meta.last_page)
        return damaged(e, page, "is no page of the file but used as one");
    if (c->used[page / 64] & 1ull << page % 64)
        return damaged(e, page, "is used twice");
    c->used[page / 64] |= 1ull << page % 64;
    return 0;
}

static int compare(const struct tree *t, struct key a, struct key b)
{
    if (t->integer_keys) {
        uint64_t x, y;

        memcpy(&x, a.data, 8);
        memcpy(&y, b.data, 8);
        return x < y ? -1 : x > y;
    }
    int order = memcmp(a.data, b.data, MIN(a.size, b.size));
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* --- one page -------------------------------------------------------------------------------------------- */

struct page {
    const uint8_t *bytes;
    uint64_t number;
    size_t count; /* nodes */
};

static int read_tree_page(struct check *c, uint64_t number, int flags, uint8_t *bytes, struct page *ret,
                          struct err *e)
{
    struct page_header h;
    int rc = mark(c, number, e);

    if (rc == 0)
        rc = read_pages(c, number, bytes, c->page_size, e);
    if (rc < 0)
        return rc;
    memcpy(&h, bytes, sizeof(h));
    if (h.number != number || h.flags != flags)
        return damaged(e, number, "has another number or kind in its header");
    if (h.lower < sizeof(h) || h.lower > h.upper || h.upper > c->page_size || h.lower % 2 || h.upper % 2)
        return damaged(e, number, "has impossible bounds");
    *ret = (struct page){.bytes = bytes, .number = number, .count = (h.lower - sizeof(h)) / 2};
    if (ret->count == 0)
        return damaged(e, number, "is empty but in use");
    return 0;
}

/* Node `i`; `ret_used` grows by the bytes it takes in the page. */
static int read_node(const struct check *c, const struct page *p, size_t i, bool leaf, struct node *ret,
                     const uint8_t **ret_key, size_t *used, struct err *e)
{
    struct page_header h;
    uint16_t at;

    memcpy(&h, p->bytes, sizeof(h));
    memcpy(&at, p->bytes + sizeof(h) + 2 * i, 2);
    if (at < h.upper || at % 2 || at + sizeof(*ret) > c->page_size)
        return damaged(e, p->number, "has a record outside itself");
    memcpy(ret, p->bytes + at, sizeof(*ret));
    size_t size = sizeof(*ret) + ret->key_size;
    if (leaf)
        size += ret->flags & NODE_BIG ? 8 : (size_t)ret->low | (size_t)ret->high << 16;
    if (at + size > c->page_size)
        return damaged(e, p->number, "has a record that leaves it");
    *ret_key = p->bytes + at + sizeof(*ret);
    *used += (size + 1) & ~(size_t)1;
    return 0;
}

static int check_fill(const struct check *c, const struct page *p, size_t used, struct err *e)
{
    struct page_header h;

    memcpy(&h, p->bytes, sizeof(h));
    return used == c->page_size - h.upper ? 0 : damaged(e, p->number, "does not account for its bytes");
}

/* --- trees ----------------------------------------------------------------------------------------------- */

static int check_key(const struct tree *t, const struct page *p, struct key key, struct key before,
                     struct key below, struct err *e)
{
    if (!key.size || (t->integer_keys && key.size != 8))
        return damaged(e, p->number, "has a key of the wrong size");
    if (before.data && compare(t, before, key) >= 0)
        return damaged(e, p->number, "has keys out of order");
    if (below.data && compare(t, key, below) >= 0)
        return damaged(e, p->number, "has a key beyond its branch");
    return 0;
}

static int read_overflow(struct tree *t, const uint8_t *reference, size_t size, uint8_t **ret, struct err *e)
{
    struct check *c = t->check;
    struct page_header h;
    uint64_t number;

    memcpy(&number, reference, 8);
    uint64_t pages = (sizeof(h) - 1 + size) / c->page_size + 1;
    if (number < 2 || number > c->meta.last_page || pages > c->meta.last_page - number + 1 ||
        number + pages > c->file_pages)
        return damaged(e, number, "overflow pages lie outside the file");
    AUTO_FREE
    uint8_t *bytes = mem_alloc(pages * c->page_size);
    int rc = read_pages(c, number, bytes, pages * c->page_size, e);
    if (rc < 0)
        return rc;
    memcpy(&h, bytes, sizeof(h));
    if (h.number != number || h.flags != PAGE_OVERFLOW || h.pages < pages)
        return damaged(e, number, "has another number or kind in its header");
    for (uint64_t i = 0; i < h.pages; i++) /* a value that shrank keeps its pages */
        if ((rc = mark(c, number + i, e)) < 0)
            return rc;
    t->overflow_pages += h.pages;
    memmove(bytes, bytes + sizeof(h), size);
    *ret = steal(&bytes);
    return 0;
}

static int walk_leaf(struct tree *t, const struct page *p, struct key low, struct key high, struct err *e)
{
    struct key before = {0};
    size_t used = 0;

    for (size_t i = 0; i < p->count; i++) {
        AUTO_FREE
        uint8_t *overflow = NULL;
        struct node n;
        struct key key;
        int rc = read_node(t->check, p, i, true, &n, &key.data, &used, e);

        if (rc < 0)
            return rc;
        key.size = n.key_size;
        rc = check_key(t, p, key, before, high, e);
        if (rc == 0 && i == 0 && low.data && compare(t, key, low) < 0)
            rc = damaged(e, p->number, "has a key before its branch");
        if (rc < 0)
            return rc;
        const uint8_t *data = key.data + key.size;
        size_t size = (size_t)n.low | (size_t)n.high << 16;
        if (n.flags & ~(NODE_BIG | NODE_TABLE))
            return damaged(e, p->number, "has a record of unknown kind");
        if (n.flags & NODE_BIG) {
            if ((rc = read_overflow(t, data, size, &overflow, e)) < 0)
                return rc;
            data = overflow;
        }
        t->entries++;
        if ((rc = t->record(t, &n, key, data, size, e)) < 0)
            return rc;
        before = key;
    }
    t->leaf_pages++;
    return check_fill(t->check, p, used, e);
}

static int walk(struct tree *t, uint64_t number, int level, struct key low, struct key high, struct err *e);

static int walk_branch(struct tree *t, const struct page *p, int level, struct key low, struct key high,
                       struct err *e)
{
    struct key before = {0};
    size_t used = 0;

    for (size_t i = 0; i < p->count; i++) {
        struct node n, after;
        struct key key, next = high;
        size_t unused = 0;
        int rc = read_node(t->check, p, i, false, &n, &key.data, &used, e);

        if (rc < 0)
            return rc;
        key.size = n.key_size;
        if (i == 0)
            key = low;
        else if ((rc = check_key(t, p, key, before.data ? before : low, high, e)) < 0)
            return rc;
        if (i + 1 < p->count) {
            if ((rc = read_node(t->check, p, i + 1, false, &after, &next.data, &unused, e)) < 0)
                return rc;
            next.size = after.key_size;
            if (!next.size || (t->integer_keys && next.size != 8))
                return damaged(e, p->number, "has a key of the wrong size");
        }
        uint64_t child = (uint64_t)n.low | (uint64_t)n.high << 16 | (uint64_t)n.flags << 32;
        if ((rc = walk(t, child, level + 1, key, next, e)) < 0)
            return rc;
        before = key;
    }
    t->branch_pages++;
    return check_fill(t->check, p, used, e);
}

static int walk(struct tree *t, uint64_t number, int level, struct key low, struct key high, struct err *e)
{
    AUTO_FREE
    uint8_t *bytes = malloc(t->check->page_size);
    bool leaf = level == t->entry.depth;
    struct page p;

    if (!bytes)
        abort();
    int rc = read_tree_page(t->check, number, leaf ? PAGE_LEAF : PAGE_BRANCH, bytes, &p, e);
    if (rc < 0)
        return rc;
    return leaf ? walk_leaf(t, &p, low, high, e) : walk_branch(t, &p, level, low, high, e);
}

static int walk_tree(struct tree *t, struct err *e)
{
    const struct table_entry *entry = &t->entry;

    if (entry->depth > LEVELS_MAX || (entry->depth == 0) != (entry->root == NO_PAGE))
        return err_set(e, ERR_CORRUPT, "a table of depth %u has an impossible root", entry->depth);
    if (entry->depth) {
        int rc = walk(t, entry->root, 1, (struct key){0}, (struct key){0}, e);
        if (rc < 0)
            return rc;
    }
    if (t->branch_pages != entry->branch_pages || t->leaf_pages != entry->leaf_pages ||
        t->overflow_pages != entry->overflow_pages || t->entries != entry->entries)
        return err_set(e, ERR_CORRUPT, "a table tells other numbers of pages and records than it has");
    return 0;
}

/* --- what the records of each table are ------------------------------------------------------------------ */

static int table_of(const struct check *c, struct key name)
{
    for (size_t i = 0; i < c->table_count; i++)
        if (strlen(c->tables[i].name) == name.size && memcmp(c->tables[i].name, name.data, name.size) == 0)
            return (int)i;
    return -1;
}

static int record_main(struct tree *t, const struct node *n, struct key key, const uint8_t *data, size_t size,
                       struct err *e)
{
    struct check *c = t->check;
    int table = table_of(c, key);

    if ((n->flags & NODE_TABLE) != (table >= 0 ? NODE_TABLE : 0) ||
        (table >= 0 && size != sizeof(struct table_entry)))
        return err_set(e, ERR_CORRUPT, "an entry of the main table is of another kind than its name");
    if (table < 0)
        return c->each(c->ctx, &(struct pages_record){-1, key.data, data, key.size, size}, e);
    memcpy(&c->entries[table], data, size);
    c->found[table] = true;
    if (c->entries[table].flags != c->tables[table].flags)
        return err_set(e, ERR_CORRUPT, "table %s has other flags", c->tables[table].name);
    return 0;
}

static int record_table(struct tree *t, const struct node *n, struct key key, const uint8_t *data, size_t size,
                        struct err *e)
{
    if (n->flags & NODE_TABLE)
        return err_set(e, ERR_CORRUPT, "a record of %s is said to be a table", t->check->tables[t->table].name);
    return t->check->each(t->check->ctx, &(struct pages_record){t->table, key.data, data, key.size, size}, e);
}

static int record_free(struct tree *t, const struct node *n, struct key key, const uint8_t *data, size_t size,
                       struct err *e)
{
    uint64_t transaction, count, page, before = NO_PAGE;

    memcpy(&transaction, key.data, 8);
    if (n->flags & NODE_TABLE || size < 8 || size % 8 || transaction > t->check->meta.transaction)
        return err_set(e, ERR_CORRUPT, "the list of free pages has an impossible entry");
    memcpy(&count, data, 8);
    if (count > size / 8 - 1)
        return err_set(e, ERR_CORRUPT, "the list of free pages is longer than its entry");
    for (uint64_t i = 1; i <= count; i++) {
        memcpy(&page, data + 8 * i, 8);
        if (page >= before)
            return err_set(e, ERR_CORRUPT, "the list of free pages is out of order");
        int rc = mark(t->check, page, e);
        if (rc < 0)
            return rc;
        before = page;
    }
    return 0;
}

/* --- the file -------------------------------------------------------------------------------------------- */

static int read_metas(struct check *c, struct err *e)
{
    uint8_t bytes[sizeof(struct page_header) + sizeof(struct meta)];
    struct page_header h;
    struct meta meta;

    for (uint64_t page = 0; page < 2; page++) {
        int rc = read_pages(c, page, bytes, sizeof(bytes), e);
        if (rc < 0)
            return rc;
        memcpy(&h, bytes, sizeof(h));
        memcpy(&meta, bytes + sizeof(h), sizeof(meta));
        if (h.number != page || h.flags != PAGE_META || meta.magic != META_MAGIC || meta.version != META_VERSION)
            return damaged(e, page, "is no meta page of LMDB's data version 1");
        if (meta.free.pad != c->page_size || meta.free.flags != (MDB_INTEGERKEY | MDB_NOSUBDIR) ||
            meta.main.flags != 0)
            return damaged(e, page, "tells another page size or other flags");
        if (meta.last_page < 1 || meta.last_page >= c->file_pages + SPARE_PAGES)
            return damaged(e, page, "tells an impossible number of pages");
        if (meta.transaction % 2 != page && meta.transaction != 0)
            return damaged(e, page, "belongs in the other place");
        if (page == 0 || meta.transaction > c->meta.transaction)
            c->meta = meta;
    }
    return 0;
}

static int check_file(struct check *c, struct err *e)
{
    int rc = read_metas(c, e);

    if (rc < 0)
        return rc;
    c->used = mem_array(c->meta.last_page / 64 + 1, sizeof(*c->used));
    struct tree main = {.check = c, .entry = c->meta.main, .record = record_main};
    if ((rc = walk_tree(&main, e)) < 0)
        return rc;
    for (size_t i = 0; i < c->table_count; i++) {
        struct tree table = {.check = c,
                             .entry = c->entries[i],
                             .integer_keys = c->tables[i].flags & MDB_INTEGERKEY,
                             .record = record_table,
                             .table = (int)i};

        if (!c->found[i])
            return err_set(e, ERR_CORRUPT, "table %s is missing", c->tables[i].name);
        if ((rc = walk_tree(&table, e)) < 0)
            return err_wrap(e, "table %s", c->tables[i].name);
    }
    struct tree free_pages = {.check = c, .entry = c->meta.free, .integer_keys = true, .record = record_free};
    return walk_tree(&free_pages, e);
}

int pages_check(int fd, const struct pages_table *tables, size_t count, pages_each *each, void *ctx, struct err *e)
{
    struct check c = {.fd = fd,
                      .page_size = (size_t)sysconf(_SC_PAGESIZE),
                      .tables = tables,
                      .table_count = count,
                      .each = each,
                      .ctx = ctx};
    struct stat st;

    static_assert(sizeof(struct page_header) == 16 && sizeof(struct node) == 8, "as on disk");
    static_assert(sizeof(struct table_entry) == 48 && sizeof(struct meta) == 136, "as on disk");
    if (fstat(fd, &st) < 0)
        return err_errno(e, "look at the file");
    c.file_pages = ((uint64_t)st.st_size + c.page_size - 1) / c.page_size;
    c.entries = mem_array(count, sizeof(*c.entries));
    c.found = mem_array(count, sizeof(*c.found));
    int rc = check_file(&c, e);
    free(c.used);
    free(c.entries);
    free(c.found);
    return rc;
}
