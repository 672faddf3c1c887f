/* The good case of a whole batch: locate, authenticate, number, link, write. See docs/adr/0020-a-native-kernel.md.

   Whatever is not the good case is left where it stands: `Sealing.take` returns how many records it took, and the next one
   is for Python, which is the oracle of all that is done here. Names follow the Python form: schemas/locator.py (`walk`),
   processors/authenticate.py (`is_authentic`), processors/chain.py (`link_held`), processors/activity.py (`count_row`).

   Bytes come in before they are authentic. So each read is within `at` and `end` of a cursor, lengths are compared with what
   is left and never added to a pointer first, and nothing recurses by what is in the data: only by the schema.

   Calls back into Python may run anything, on other threads too. What is held over one is owned: the record and its parts,
   plans, sessions. Nothing that a call changes is shared: a `Locator` is never changed but for `recent` of its operations,
   each of which is replaced whole; a `Sealing` is busy while it takes. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

enum { SLOW = 0, GOOD = 1, FAIL = -1 }; /* FAIL: a Python exception is set */

#define MAX_DEPTH 32
#define MAX_SUBJECTS 64
#define RECENT 16
#define SALT_SIZE 16
#define SALTS 64 /* drawn at once, as in processors/chain.py */
#define SCOPE_SIZE 16
#define DIGEST_SIZE 32
#define ID_SIZE 16
#define MAX_CHAIN 1024            /* bytes of a chain's name, its length before it */
#define EXACT_MS (1LL << 53)      /* what a double holds exactly */
#define MAX_NUMBER_SIZE 10
#define SIGNATURE_SIZE 64
#define MAX_CONTEXT 64            /* bytes before what is signed */

/* -- libcrypto, as Python has loaded it. SHA-256: its plain functions, which fetch nothing by name at each call */

typedef struct {
    union {
        unsigned char bytes[256]; /* SHA256_CTX has 112, and no pointers: it is copied as bytes */
        uint64_t aligned;
    } u;
} sha;

static int (*sha_init)(void *);
static int (*sha_update)(void *, const void *, size_t);
static int (*sha_final)(unsigned char *, void *);

/* Ed25519 of the same library: EVP_PKEY_new_raw_private_key and so on. NULL: it has none. */
static void *(*key_new)(int, void *, const unsigned char *, size_t);
static void (*key_free)(void *);
static void *(*signing_new)(void);
static void (*signing_free)(void *);
static int (*signing_begin)(void *, void **, const void *, void *, void *);
static int (*signing_end)(void *, unsigned char *, size_t *, const unsigned char *, size_t);

static void load_signing(void *library)
{
    *(void **)&key_new = dlsym(library, "EVP_PKEY_new_raw_private_key");
    *(void **)&key_free = dlsym(library, "EVP_PKEY_free");
    *(void **)&signing_new = dlsym(library, "EVP_MD_CTX_new");
    *(void **)&signing_free = dlsym(library, "EVP_MD_CTX_free");
    *(void **)&signing_begin = dlsym(library, "EVP_DigestSignInit");
    *(void **)&signing_end = dlsym(library, "EVP_DigestSign");
}

static int can_sign(void)
{
    return key_new != NULL && key_free != NULL && signing_new != NULL && signing_free != NULL && signing_begin != NULL &&
           signing_end != NULL;
}

static int load_libcrypto(void)
{
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.3.dylib", "libcrypto.1.1.dylib"};
    static const int modes[] = {RTLD_NOW | RTLD_NOLOAD, RTLD_NOW};
    for (size_t mode = 0; mode < sizeof modes / sizeof *modes; mode++) {
        for (size_t name = 0; name < sizeof names / sizeof *names; name++) {
            void *library = dlopen(names[name], modes[mode]);
            if (library == NULL)
                continue;
            *(void **)&sha_init = dlsym(library, "SHA256_Init");
            *(void **)&sha_update = dlsym(library, "SHA256_Update");
            *(void **)&sha_final = dlsym(library, "SHA256_Final");
            if (sha_init != NULL && sha_update != NULL && sha_final != NULL) {
                load_signing(library);
                return 0;
            }
        }
    }
    PyErr_SetString(PyExc_ImportError, "no libcrypto with SHA256_Init");
    return -1;
}

static void digest_of(const void *data, size_t size, unsigned char *out)
{
    sha context;
    sha_init(&context);
    sha_update(&context, data, size);
    sha_final(out, &context);
}

/* HMAC-SHA-256 under one key: what it absorbs before and after the message. */
typedef struct {
    sha inner, outer;
} keyed;

static void keyed_begin(keyed *self, const unsigned char *key, size_t size)
{
    unsigned char block[64] = {0}, pad[64];
    if (size > sizeof block)
        digest_of(key, size, block);
    else if (size)
        memcpy(block, key, size);
    for (size_t i = 0; i < sizeof block; i++)
        pad[i] = block[i] ^ 0x36;
    sha_init(&self->inner);
    sha_update(&self->inner, pad, sizeof pad);
    for (size_t i = 0; i < sizeof block; i++)
        pad[i] = block[i] ^ 0x5c;
    sha_init(&self->outer);
    sha_update(&self->outer, pad, sizeof pad);
}

static void keyed_end(const keyed *self, sha *inner, unsigned char *out)
{
    sha outer = self->outer;
    sha_final(out, inner);
    sha_update(&outer, out, DIGEST_SIZE);
    sha_final(out, &outer);
}

static int same_digest(const unsigned char *one, const unsigned char *other)
{
    volatile unsigned char differs = 0;
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        differs |= one[i] ^ other[i];
    return differs == 0;
}

/* -- numbers */

static void big_endian(uint64_t value, unsigned char *out)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        out[i] = (unsigned char)value;
}

/* Avro's zig-zag varint of a number that is not negative; MAX_NUMBER_SIZE bytes at most. */
static size_t put_number(unsigned char *out, uint64_t value)
{
    size_t size = 0;
    value <<= 1;
    while (value > 0x7f) {
        out[size++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    out[size++] = (unsigned char)value;
    return size;
}

/* -- bytes that grow */

typedef struct {
    unsigned char *data;
    size_t size, room;
} buffer;

static int put(buffer *self, const void *data, size_t size)
{
    if (size > self->room - self->size) {
        size_t room = self->room ? self->room : 256;
        while (room - self->size < size) {
            if (room > (size_t)PY_SSIZE_T_MAX / 2) {
                PyErr_NoMemory();
                return -1;
            }
            room *= 2;
        }
        unsigned char *grown = PyMem_Realloc(self->data, room);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->data = grown;
        self->room = room;
    }
    if (size)
        memcpy(self->data + self->size, data, size);
    self->size += size;
    return 0;
}

/* -- the program of a locator: schemas/program.py writes it, and has the same numbers */

enum {
    NULLABLE, ARRAY, CLASS, KNOWN, CLEAR, EMPTY, ENCRYPTED, ENUM, FIXED, BOOLEAN, NUMBER, FLOAT, DOUBLE, BYTES, EXTENSION,
    VARIANT, /* one schema of an extension; follows EXTENSION */
    CODES
};

enum { /* texts and fixed that sealing needs */
    EVENT_ID, EVENT_NAME, TENANT, SOURCE, INSTANCE, EPOCH, ACTOR, CORRELATION, REGION, TEXTS,
    SEQ = TEXTS, RESULT, STAGE, RECIPIENTS, ACTOR_KIND, STATUS, FIELDS, PICKS /* numbers */
};

enum { ABOUT_NOBODY = -1, ABOUT_ITSELF = -2, UNTOLD = -3 }; /* of an encrypted value; else the subject's register */

typedef struct {
    uint8_t code;
    uint8_t keyed;      /* its bytes are part of the key */
    uint8_t empty;      /* anything but nothing is slow */
    uint8_t is_path;    /* tells where, for CLEAR */
    uint8_t is_uuid7;
    int8_t pick;        /* -1: none */
    int8_t subject;     /* register that it fills, -1: none; of ENCRYPTED: see above */
    uint8_t some, null; /* bytes of a union's branches */
    uint32_t end;       /* index behind its body */
    uint64_t resets;    /* registers of subjects below a null */
    int64_t low, high;  /* of numbers; sizes of texts and fixed; symbols */
    uint64_t first[2], rest[2]; /* ASCII characters of CLASS */
    unsigned char schema[DIGEST_SIZE]; /* of VARIANT */
    PyObject *known, *look;            /* of KNOWN, and of CLEAR where a value must be masked */
    PyObject *paths, *clear, *look_clear;
    PyObject *path;     /* of ENCRYPTED, text */
    PyObject *recent[RECENT], *recent_clear[RECENT]; /* texts that passed lately, by what `passes` sums up of them */
} operation;

typedef struct {
    PyObject_HEAD
    operation *operations;
    uint32_t count, room;
    PyObject *header, *region, *open;
    Py_ssize_t most;     /* bytes of an event */
    int64_t system, none; /* actor.kind and redaction.status, as Avro has them */
} Locator;

typedef struct {
    const unsigned char *at;
    size_t size;
} text;

typedef struct {
    size_t start, end;
    PyObject *path; /* borrowed of the locator */
    text value, subject;
    int itself;
} hole;

/* One event on its way through the program. */
typedef struct {
    const unsigned char *base, *at, *end;
    text where, texts[TEXTS], subjects[MAX_SUBJECTS];
    int64_t numbers[PICKS];
    uint32_t has; /* bit by pick */
    buffer key, holes, spans; /* spans: its texts, in order */
} event;

static void event_free(event *self)
{
    PyMem_Free(self->key.data);
    PyMem_Free(self->holes.data);
    PyMem_Free(self->spans.data);
}

static int equals(text one, const char *other, size_t size)
{
    return one.size == size && (size == 0 || memcmp(one.at, other, size) == 0);
}

static int equals_bytes(text one, PyObject *other)
{
    return equals(one, PyBytes_AS_STRING(other), (size_t)PyBytes_GET_SIZE(other));
}

static PyObject *bytes_of(text value)
{
    return PyBytes_FromStringAndSize((const char *)value.at, (Py_ssize_t)value.size);
}

static int within(const uint64_t set[2], unsigned char c)
{
    return c < 128 && (set[c >> 6] >> (c & 63) & 1);
}

/* A text's bytes; its length in one byte or two. */
static int read_text(event *e, text *value)
{
    if (e->at == e->end)
        return SLOW;
    unsigned size = *e->at++;
    if (size > 127) {
        if (e->at == e->end)
            return SLOW;
        unsigned more = *e->at++;
        if (more == 0 || more > 127)
            return SLOW;
        size = (size & 127) | more << 7;
    }
    if (size & 1)
        return SLOW;
    size >>= 1;
    if (size > (size_t)(e->end - e->at))
        return SLOW;
    value->at = e->at;
    value->size = size;
    e->at += size;
    return GOOD;
}

/* A number in its shortest form, within low and high. */
static int read_number(event *e, int64_t low, int64_t high, int64_t *value)
{
    uint64_t bits = 0;
    for (unsigned shift = 0; shift <= 63; shift += 7) {
        if (e->at == e->end)
            return SLOW;
        uint64_t byte = *e->at++;
        if (shift == 63 && byte > 1)
            return SLOW; /* more than 64 bits, or no end */
        bits |= (byte & 0x7f) << shift;
        if (byte > 0x7f)
            continue;
        if (byte == 0 && shift)
            return SLOW;
        uint64_t decoded = bits >> 1 ^ (0 - (bits & 1));
        memcpy(value, &decoded, sizeof decoded);
        return *value >= low && *value <= high ? GOOD : SLOW;
    }
    return SLOW;
}

/* Whether a text passes: it is known to, or `look` says it does. What is wrong with the text makes `look` raise. */
static int passes(text value, PyObject *known, PyObject *look, PyObject **recent)
{
    size_t sum = value.size == 0 ? 0 : value.size + 3 * value.at[0] + 5 * value.at[value.size / 2] + 7 * value.at[value.size - 1];
    PyObject **last = &recent[sum % RECENT];
    if (*last != NULL && equals_bytes(value, *last))
        return GOOD;
    PyObject *bytes = bytes_of(value);
    if (bytes == NULL)
        return FAIL;
    int found = PySet_Contains(known, bytes);
    if (found == 0) {
        PyObject *looked = PyObject_CallFunctionObjArgs(look, bytes, NULL);
        if (looked != NULL) {
            Py_DECREF(looked);
            found = 1;
        } else if (PyErr_ExceptionMatches(PyExc_Exception)) {
            PyErr_Clear();
        } else {
            found = FAIL;
        }
    }
    if (found == 1) {
        PyObject *before = *last;
        *last = bytes;
        Py_XDECREF(before);
        return GOOD;
    }
    Py_DECREF(bytes);
    return found < 0 ? FAIL : SLOW;
}

static int is_uuid7(const unsigned char *id)
{
    return id[6] >> 4 == 7 && id[8] >> 6 == 2;
}

/* The form of FieldCipher.encrypt: enc_ and at least 28 characters of base64url. */
static int is_encrypted(text value)
{
    if (value.size < 32 || memcmp(value.at, "enc_", 4) != 0)
        return 0;
    for (size_t i = 4; i < value.size; i++) {
        unsigned char c = value.at[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return 0;
    }
    return 1;
}

static int read_encrypted(event *e, const operation *o, const unsigned char *began, text value)
{
    if (value.size == 0)
        return GOOD;
    if (o->subject == UNTOLD || !is_encrypted(value))
        return SLOW;
    hole found = {0};
    found.start = (size_t)(began - e->base);
    found.end = (size_t)(e->at - e->base);
    found.path = o->path;
    found.value = value;
    found.itself = o->subject == ABOUT_ITSELF;
    if (o->subject >= 0)
        found.subject = e->subjects[o->subject];
    return put(&e->holes, &found, sizeof found) < 0 ? FAIL : GOOD;
}

static int check_text(event *e, operation *o, const unsigned char *began, text value)
{
    switch (o->code) {
    case CLASS:
        if (value.size < (size_t)o->low || value.size > (size_t)o->high)
            return SLOW;
        for (size_t i = 0; i < value.size; i++)
            if (!within(i ? o->rest : o->first, value.at[i]))
                return SLOW;
        return GOOD;
    case KNOWN:
        return passes(value, o->known, o->look, o->recent);
    case CLEAR: {
        if (e->where.at == NULL)
            return SLOW;
        PyObject *where = bytes_of(e->where);
        if (where == NULL)
            return FAIL;
        int clear = PySet_Contains(o->paths, where);
        Py_DECREF(where);
        if (clear < 0)
            return FAIL;
        return clear ? passes(value, o->clear, o->look_clear, o->recent_clear) : passes(value, o->known, o->look, o->recent);
    }
    case EMPTY:
        return value.size == 0 ? GOOD : SLOW;
    default:
        return read_encrypted(e, o, began, value);
    }
}

static uint64_t little_endian(const unsigned char *at, size_t size)
{
    uint64_t bits = 0;
    for (size_t i = size; i-- > 0;)
        bits = bits << 8 | at[i];
    return bits;
}

static int read_float(event *e, const operation *o)
{
    size_t size = o->code == FLOAT ? 4 : 8;
    if ((size_t)(e->end - e->at) < size)
        return SLOW;
    double value;
    if (o->code == FLOAT) {
        uint32_t bits = (uint32_t)little_endian(e->at, 4);
        float narrow;
        memcpy(&narrow, &bits, sizeof narrow);
        value = (double)narrow;
    } else {
        uint64_t bits = little_endian(e->at, 8);
        memcpy(&value, &bits, sizeof value);
    }
    e->at += size;
    return isfinite(value) && !(o->empty && value != 0) ? GOOD : SLOW;
}

static void pick_text(event *e, const operation *o, text value)
{
    if (o->pick >= 0) {
        e->texts[o->pick] = value;
        e->has |= 1u << o->pick;
    }
}

static void pick_number(event *e, const operation *o, int64_t value)
{
    if (o->pick >= 0) {
        e->numbers[o->pick] = value;
        e->has |= 1u << o->pick;
    }
}

static int read_leaf(event *e, operation *o)
{
    const unsigned char *began = e->at;
    int outcome = GOOD;
    switch (o->code) {
    case CLASS:
    case KNOWN:
    case CLEAR:
    case EMPTY:
    case ENCRYPTED: {
        text value;
        if (read_text(e, &value) != GOOD)
            return SLOW;
        outcome = check_text(e, o, began, value);
        if (outcome != GOOD)
            return outcome;
        if (o->is_path)
            e->where = value;
        if (o->code != ENCRYPTED && o->subject >= 0)
            e->subjects[o->subject] = value;
        pick_text(e, o, value);
        if (put(&e->spans, &value, sizeof value) < 0)
            return FAIL;
        break;
    }
    case ENUM:
    case BOOLEAN:
    case BYTES: {
        if (e->at == e->end)
            return SLOW;
        uint8_t value = *e->at++;
        if (value > o->high || (o->code == ENUM && value & 1) || (o->empty && value))
            return SLOW;
        pick_number(e, o, value);
        break;
    }
    case FIXED: {
        text value = {e->at, (size_t)o->high};
        if (o->empty || (size_t)(e->end - e->at) < value.size || (o->is_uuid7 && !is_uuid7(value.at)))
            return SLOW;
        e->at += value.size;
        pick_text(e, o, value);
        break;
    }
    case NUMBER: {
        int64_t value;
        if (read_number(e, o->low, o->high, &value) != GOOD || (o->empty && value))
            return SLOW;
        pick_number(e, o, value);
        break;
    }
    case FLOAT:
    case DOUBLE:
        if (read_float(e, o) != GOOD)
            return SLOW;
        break;
    default:
        return SLOW;
    }
    if (o->keyed && put(&e->key, began, (size_t)(e->at - began)) < 0)
        return FAIL;
    return GOOD;
}

static int walk(Locator *self, event *e, uint32_t from, uint32_t to);

static int read_nullable(Locator *self, event *e, uint32_t index)
{
    const operation *o = &self->operations[index];
    if (e->at == e->end)
        return SLOW;
    uint8_t branch = *e->at++;
    if (o->keyed && put(&e->key, &branch, 1) < 0)
        return FAIL;
    if (branch == o->some)
        return walk(self, e, index + 1, o->end);
    if (branch != o->null)
        return SLOW;
    for (int i = 0; o->resets >> i; i++) {
        if (o->resets >> i & 1)
            e->subjects[i] = (text){NULL, 0};
        if (i == MAX_SUBJECTS - 1)
            break;
    }
    return GOOD;
}

static int read_array(Locator *self, event *e, uint32_t index)
{
    const operation *o = &self->operations[index];
    if (e->at == e->end)
        return SLOW;
    uint8_t count = *e->at++;
    pick_number(e, o, count);
    if (o->keyed && put(&e->key, &count, 1) < 0)
        return FAIL;
    if (count == 0)
        return GOOD;
    if (count & 1 || count > 127 || o->empty)
        return SLOW;
    for (unsigned i = 0; i < count >> 1; i++) {
        int outcome = walk(self, e, index + 1, o->end);
        if (outcome != GOOD)
            return outcome;
    }
    if (e->at == e->end || *e->at++ != 0)
        return SLOW;
    return GOOD;
}

static int read_extension(Locator *self, event *e, uint32_t index)
{
    const operation *o = &self->operations[index];
    int64_t size;
    if (e->at == e->end)
        return SLOW;
    uint8_t branch = *e->at++;
    if (branch == o->null)
        return GOOD;
    if (branch != o->some || e->end - e->at < DIGEST_SIZE)
        return SLOW;
    const unsigned char *schema = e->at;
    e->at += DIGEST_SIZE;
    if (read_number(e, 0, INT64_MAX, &size) != GOOD || size > e->end - e->at)
        return SLOW;
    for (uint32_t variant = index + 1; variant < o->end; variant = self->operations[variant].end) {
        if (memcmp(self->operations[variant].schema, schema, DIGEST_SIZE) != 0)
            continue;
        const unsigned char *outer = e->end;
        text where = e->where;
        e->end = e->at + size;
        e->where = (text){NULL, 0};
        int outcome = walk(self, e, variant + 1, self->operations[variant].end);
        if (outcome == GOOD && e->at != e->end)
            outcome = SLOW;
        e->end = outer;
        e->where = where;
        return outcome;
    }
    return SLOW;
}

static int walk(Locator *self, event *e, uint32_t from, uint32_t to)
{
    while (from < to) {
        operation *o = &self->operations[from];
        int outcome;
        switch (o->code) {
        case NULLABLE:
            outcome = read_nullable(self, e, from);
            break;
        case ARRAY:
            outcome = read_array(self, e, from);
            break;
        case EXTENSION:
            outcome = read_extension(self, e, from);
            break;
        default:
            outcome = read_leaf(e, o);
        }
        if (outcome != GOOD)
            return outcome;
        from = o->end;
    }
    return GOOD;
}

/* As schemas.locator's function, but for the secret scan, for which it gives the texts. The event's buffers are used again. */
static int locate(Locator *self, event *e, PyObject *data)
{
    Py_ssize_t size = PyBytes_GET_SIZE(data), header = PyBytes_GET_SIZE(self->header);
    if (size > self->most || size < header)
        return SLOW;
    e->base = e->at = (const unsigned char *)PyBytes_AS_STRING(data);
    e->end = e->base + size;
    if (memcmp(e->base, PyBytes_AS_STRING(self->header), (size_t)header) != 0)
        return SLOW;
    e->at += header;
    e->key.size = e->holes.size = e->spans.size = 0;
    if (put(&e->key, e->base, (size_t)header) < 0)
        return FAIL;
    e->has = 0;
    e->where = (text){NULL, 0};
    memset(e->subjects, 0, sizeof e->subjects);
    memset(e->texts, 0, sizeof e->texts);
    memset(e->numbers, 0, sizeof e->numbers);
    int outcome = walk(self, e, 0, self->count);
    if (outcome != GOOD)
        return outcome;
    if (e->at != e->end || equals_bytes(e->texts[EVENT_NAME], self->open) || !equals_bytes(e->texts[REGION], self->region))
        return SLOW;
    if (e->texts[ACTOR].size == 0 && e->numbers[ACTOR_KIND] != self->system)
        return SLOW;
    if (e->numbers[FIELDS] && e->numbers[STATUS] == self->none)
        return SLOW;
    return GOOD;
}

static PyObject *holes_of(const event *e)
{
    size_t count = e->holes.size / sizeof(hole);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        hole found;
        memcpy(&found, e->holes.data + i * sizeof found, sizeof found);
        PyObject *value = bytes_of(found.value);
        PyObject *subject = found.itself ? Py_NewRef(Py_None) : bytes_of(found.subject);
        PyObject *made = NULL;
        if (value != NULL && subject != NULL)
            made = Py_BuildValue(
                "(nnOOO)", (Py_ssize_t)found.start, (Py_ssize_t)found.end, found.path, value, subject);
        Py_XDECREF(value);
        Py_XDECREF(subject);
        if (made == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, made);
    }
    return list;
}

/* -- making a locator from its program */

static int number_in(PyObject *tuple, Py_ssize_t index, long long low, long long high, long long *out)
{
    if (index >= PyTuple_GET_SIZE(tuple)) {
        PyErr_SetString(PyExc_ValueError, "operation: too short");
        return -1;
    }
    *out = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, index));
    if (*out == -1 && PyErr_Occurred())
        return -1;
    if (*out < low || *out > high) {
        PyErr_Format(PyExc_ValueError, "operation: item %zd out of range", index);
        return -1;
    }
    return 0;
}

static PyObject *item_of(PyObject *tuple, Py_ssize_t index)
{
    if (index < PyTuple_GET_SIZE(tuple))
        return PyTuple_GET_ITEM(tuple, index);
    PyErr_SetString(PyExc_ValueError, "operation: too short");
    return NULL;
}

static int class_in(PyObject *tuple, Py_ssize_t index, uint64_t set[2])
{
    PyObject *characters = item_of(tuple, index);
    if (characters == NULL || !PyBytes_CheckExact(characters)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "operation: a class is bytes");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyBytes_GET_SIZE(characters); i++) {
        unsigned char c = (unsigned char)PyBytes_AS_STRING(characters)[i];
        if (c > 127) {
            PyErr_SetString(PyExc_ValueError, "operation: a class is of ASCII");
            return -1;
        }
        set[c >> 6] |= (uint64_t)1 << (c & 63);
    }
    return 0;
}

static int look_in(PyObject *tuple, Py_ssize_t index, PyObject **known, PyObject **look)
{
    PyObject *set = item_of(tuple, index), *function = set == NULL ? NULL : item_of(tuple, index + 1);
    if (function == NULL)
        return -1;
    if (!PySet_CheckExact(set) || !PyCallable_Check(function)) {
        PyErr_SetString(PyExc_TypeError, "operation: a set and a function are due");
        return -1;
    }
    *known = Py_NewRef(set);
    *look = Py_NewRef(function);
    return 0;
}

static int add_body(Locator *self, PyObject *body, int depth);

/* What follows code, keyed and pick, by code. */
static int add_details(operation *o, PyObject *given, int depth)
{
    long long one, other, third;
    switch (o->code) {
    case NULLABLE: { /* null, some, subjects, body */
        if (number_in(given, 3, 0, 2, &one) < 0 || number_in(given, 4, 0, 2, &other) < 0)
            return -1;
        o->null = (uint8_t)one;
        o->some = (uint8_t)other;
        PyObject *resets = item_of(given, 5);
        if (resets == NULL || !PyTuple_Check(resets)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "operation: registers are a tuple");
            return -1;
        }
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(resets); i++) {
            if (number_in(resets, i, 0, MAX_SUBJECTS - 1, &one) < 0)
                return -1;
            o->resets |= (uint64_t)1 << one;
        }
        return 6;
    }
    case ARRAY: /* empty, body */
        if (number_in(given, 3, 0, 1, &one) < 0)
            return -1;
        o->empty = (uint8_t)one;
        return 4;
    case CLASS: /* subject, is_path, first, rest, low, high */
    case KNOWN: /* subject, is_path, known, look */
        if (number_in(given, 3, -1, MAX_SUBJECTS - 1, &one) < 0 || number_in(given, 4, 0, 1, &other) < 0)
            return -1;
        o->subject = (int8_t)one;
        o->is_path = (uint8_t)other;
        if (o->code == KNOWN)
            return look_in(given, 5, &o->known, &o->look);
        if (class_in(given, 5, o->first) < 0 || class_in(given, 6, o->rest) < 0)
            return -1;
        if (number_in(given, 7, 0, 8191, &one) < 0 || number_in(given, 8, 0, 8191, &other) < 0)
            return -1;
        o->low = one;
        o->high = other;
        return 0;
    case CLEAR: { /* subject, known, look, paths, clear, look_clear */
        if (number_in(given, 3, -1, MAX_SUBJECTS - 1, &one) < 0 || look_in(given, 4, &o->known, &o->look) < 0)
            return -1;
        o->subject = (int8_t)one;
        PyObject *paths = item_of(given, 6);
        if (paths == NULL || !PyFrozenSet_CheckExact(paths)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "operation: paths are a frozenset");
            return -1;
        }
        o->paths = Py_NewRef(paths);
        return look_in(given, 7, &o->clear, &o->look_clear);
    }
    case EMPTY: /* subject */
        if (number_in(given, 3, -1, MAX_SUBJECTS - 1, &one) < 0)
            return -1;
        o->subject = (int8_t)one;
        return 0;
    case ENCRYPTED: { /* subject, path */
        if (number_in(given, 3, UNTOLD, MAX_SUBJECTS - 1, &one) < 0)
            return -1;
        o->subject = (int8_t)one;
        PyObject *path = item_of(given, 4);
        if (path == NULL || !PyUnicode_CheckExact(path)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "operation: a path is text");
            return -1;
        }
        o->path = Py_NewRef(path);
        return 0;
    }
    case ENUM:
    case BOOLEAN:
    case BYTES: /* empty, high */
        if (number_in(given, 3, 0, 1, &one) < 0 || number_in(given, 4, 0, 126, &other) < 0)
            return -1;
        o->empty = (uint8_t)one;
        o->high = other;
        return 0;
    case FIXED: /* empty, size, is_uuid7 */
        if (number_in(given, 3, 0, 1, &one) < 0 || number_in(given, 4, 0, 1 << 20, &other) < 0 ||
            number_in(given, 5, 0, 1, &third) < 0)
            return -1;
        if (third && other != ID_SIZE) {
            PyErr_SetString(PyExc_ValueError, "operation: a UUID has 16 bytes");
            return -1;
        }
        o->empty = (uint8_t)one;
        o->high = other;
        o->is_uuid7 = (uint8_t)third;
        return 0;
    case NUMBER: /* empty, low, high */
        if (number_in(given, 3, 0, 1, &one) < 0 || number_in(given, 4, INT64_MIN, INT64_MAX, &other) < 0 ||
            number_in(given, 5, INT64_MIN, INT64_MAX, &third) < 0)
            return -1;
        o->empty = (uint8_t)one;
        o->low = other;
        o->high = third;
        return 0;
    case FLOAT:
    case DOUBLE: /* empty */
        if (number_in(given, 3, 0, 1, &one) < 0)
            return -1;
        o->empty = (uint8_t)one;
        return 0;
    case EXTENSION: /* null, some, variants */
        if (depth || number_in(given, 3, 0, 2, &one) < 0 || number_in(given, 4, 0, 2, &other) < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "operation: an extension is a field of the event");
            return -1;
        }
        o->null = (uint8_t)one;
        o->some = (uint8_t)other;
        return 5;
    default: { /* VARIANT: schema, body */
        PyObject *schema = item_of(given, 3);
        if (schema == NULL || !PyBytes_CheckExact(schema) || PyBytes_GET_SIZE(schema) != DIGEST_SIZE) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "operation: a schema's digest has 32 bytes");
            return -1;
        }
        memcpy(o->schema, PyBytes_AS_STRING(schema), DIGEST_SIZE);
        return 4;
    }
    }
}

/* Whether a pick is what sealing takes it for. */
static int is_pick_right(const operation *o)
{
    switch (o->pick) {
    case -1:
        return 1;
    case EVENT_ID:
    case EPOCH:
        return o->code == FIXED && o->high == ID_SIZE;
    case SEQ:
        return o->code == NUMBER;
    case RECIPIENTS: /* they are added up */
        return o->code == NUMBER && o->low >= 0 && o->high <= INT32_MAX;
    case FIELDS:
        return o->code == ARRAY;
    default:
        return o->pick < TEXTS ? o->code >= CLASS && o->code <= ENCRYPTED : o->code == ENUM;
    }
}

/* Adds an operation and what is below it. Operations move as they grow: none is pointed to across a call. */
static int add_operation(Locator *self, PyObject *given, int depth, int variant)
{
    if (depth > MAX_DEPTH || !PyTuple_Check(given)) {
        PyErr_SetString(PyExc_ValueError, "operation: too deep, or no tuple");
        return -1;
    }
    if (self->count == self->room) {
        if (self->room > 1 << 20) {
            PyErr_SetString(PyExc_ValueError, "program: too long");
            return -1;
        }
        uint32_t room = self->room ? 2 * self->room : 64;
        operation *grown = PyMem_Realloc(self->operations, room * sizeof *grown);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->operations = grown;
        self->room = room;
    }
    uint32_t index = self->count++;
    operation *o = &self->operations[index];
    memset(o, 0, sizeof *o);
    o->pick = o->subject = -1;
    long long code, is_keyed, pick;
    if (number_in(given, 0, 0, CODES - 1, &code) < 0 || number_in(given, 1, 0, 1, &is_keyed) < 0 ||
        number_in(given, 2, -1, PICKS - 1, &pick) < 0)
        return -1;
    if ((code == VARIANT) != variant) {
        PyErr_SetString(PyExc_ValueError, "operation: variants are of an extension");
        return -1;
    }
    o->code = (uint8_t)code;
    o->keyed = (uint8_t)is_keyed;
    o->pick = (int8_t)pick;
    int body = add_details(o, given, depth);
    if (body < 0)
        return -1;
    if (!is_pick_right(o)) {
        PyErr_SetString(PyExc_ValueError, "operation: a field that sealing needs is of another type");
        return -1;
    }
    if (body) {
        PyObject *below = item_of(given, body);
        if (below == NULL || add_body(self, below, code == EXTENSION ? -1 : depth + 1) < 0)
            return -1;
    }
    self->operations[index].end = self->count;
    return 0;
}

/* depth -1: the variants of an extension. */
static int add_body(Locator *self, PyObject *body, int depth)
{
    if (!PyTuple_Check(body)) {
        PyErr_SetString(PyExc_TypeError, "program: a body is a tuple");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(body); i++)
        if (add_operation(self, PyTuple_GET_ITEM(body, i), depth < 0 ? 1 : depth, depth < 0) < 0)
            return -1;
    return 0;
}

static void locator_dealloc(Locator *self)
{
    for (uint32_t i = 0; i < self->count; i++) {
        operation *o = &self->operations[i];
        Py_XDECREF(o->known);
        Py_XDECREF(o->look);
        Py_XDECREF(o->paths);
        Py_XDECREF(o->clear);
        Py_XDECREF(o->look_clear);
        Py_XDECREF(o->path);
        for (size_t k = 0; k < RECENT; k++) {
            Py_XDECREF(o->recent[k]);
            Py_XDECREF(o->recent_clear[k]);
        }
    }
    PyMem_Free(self->operations);
    Py_XDECREF(self->header);
    Py_XDECREF(self->region);
    Py_XDECREF(self->open);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *locator_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *header, *region, *open, *program;
    Py_ssize_t most;
    long long system, none;
    if (!PyArg_ParseTuple(args, "SnSSLLO!", &header, &most, &region, &open, &system, &none, &PyTuple_Type, &program))
        return NULL;
    Locator *self = (Locator *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->header = Py_NewRef(header);
    self->region = Py_NewRef(region);
    self->open = Py_NewRef(open);
    self->most = most;
    self->system = system;
    self->none = none;
    uint32_t picked = 0;
    if (add_body(self, program, 0) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    for (uint32_t i = 0; i < self->count; i++)
        if (self->operations[i].pick >= 0)
            picked |= 1u << self->operations[i].pick;
    picked |= 1u << CORRELATION | 1u << STAGE | 1u << RECIPIENTS;
    if (picked != (1u << PICKS) - 1) {
        PyErr_SetString(PyExc_ValueError, "program: a field that sealing needs is missing");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *text_or_none(const event *e, int pick)
{
    return e->has >> pick & 1 ? bytes_of(e->texts[pick]) : Py_NewRef(Py_None);
}

/* The fields of schemas.locator.Located, the key as bytes and holes as tuples; None: slow. The secret scan is the caller's. */
static PyObject *locator_locate(Locator *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "an event is bytes");
        return NULL;
    }
    event *e = PyMem_Calloc(1, sizeof *e);
    if (e == NULL)
        return PyErr_NoMemory();
    PyObject *made = NULL;
    int outcome = locate(self, e, data);
    if (outcome == SLOW)
        made = Py_NewRef(Py_None);
    else if (outcome == GOOD)
        made = Py_BuildValue(
            "(NNNNNNLNLNNLNN)", bytes_of(e->texts[EVENT_ID]), bytes_of(e->texts[EVENT_NAME]), bytes_of(e->texts[TENANT]),
            bytes_of(e->texts[SOURCE]), bytes_of(e->texts[INSTANCE]), bytes_of(e->texts[EPOCH]), e->numbers[SEQ],
            bytes_of(e->texts[ACTOR]), e->numbers[RESULT], text_or_none(e, CORRELATION),
            e->has >> STAGE & 1 ? PyLong_FromLongLong(e->numbers[STAGE]) : Py_NewRef(Py_None), e->numbers[RECIPIENTS],
            PyBytes_FromStringAndSize((const char *)e->key.data, (Py_ssize_t)e->key.size), holes_of(e));
    event_free(e);
    PyMem_Free(e);
    return made;
}

static PyMethodDef locator_methods[] = {{"locate", (PyCFunction)locator_locate, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static PyTypeObject LocatorType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "processors.native._kernel.Locator",
    .tp_basicsize = sizeof(Locator),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = locator_new,
    .tp_dealloc = (destructor)locator_dealloc,
    .tp_methods = locator_methods,
};

/* -- what secrets begin with: schemas.beginnings */

#define MAX_BEGINNINGS 4096
#define MAX_BEGINNING 64 /* bytes */
#define AT_ONCE 4        /* places that are looked at before the first question */
#define LANES 128        /* beginnings that are looked for together */

typedef uint64_t lanes __attribute__((vector_size(LANES / 8), aligned(8))); /* a bit for each of them */

typedef struct {
    lanes may[MAX_BEGINNING][256]; /* by place and byte: who may have that byte there, or ended before */
    lanes ended[MAX_BEGINNING];    /* by place: who ended before */
    size_t longest;
} group;

typedef struct {
    PyObject_HEAD
    group *groups;
    size_t count;
} Hints;

static int is_any(lanes who)
{
    return (who[0] | who[1]) != 0;
}

/* Whether one of these, who may begin here by their first places, does. */
static int begins(const group *g, lanes who, const unsigned char *at, size_t left)
{
    for (size_t place = 0; place < g->longest && is_any(who); place++) {
        if (place == left)
            return is_any(who & g->ended[place]);
        who &= g->may[place][at[place]];
    }
    return is_any(who);
}

/* Whether one of the beginnings is somewhere in the text. */
static int is_hinted(const Hints *self, text value)
{
    static const lanes all = {UINT64_MAX, UINT64_MAX};
    for (const group *g = self->groups; g != self->groups + self->count; g++) {
        const unsigned char *at = value.at;
        size_t left = value.size;
        for (; left >= AT_ONCE; at++, left--) {
            lanes who = g->may[0][at[0]] & g->may[1][at[1]] & g->may[2][at[2]] & g->may[3][at[3]];
            if (is_any(who) && begins(g, who, at, left))
                return 1;
        }
        for (; left > 0; at++, left--)
            if (begins(g, all, at, left))
                return 1;
    }
    return 0;
}

static void hints_dealloc(Hints *self)
{
    PyMem_Free(self->groups);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int add_beginning(Hints *self, Py_ssize_t number, PyObject *given)
{
    group *g = &self->groups[number / LANES];
    size_t word = (size_t)number % LANES / 64;
    uint64_t bit = (uint64_t)1 << (number % 64);
    if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) < 2 || PyTuple_GET_SIZE(given) > MAX_BEGINNING) {
        PyErr_SetString(PyExc_ValueError, "a beginning is a tuple of two places or more");
        return -1;
    }
    size_t size = (size_t)PyTuple_GET_SIZE(given);
    if (g->longest < size)
        g->longest = size;
    for (size_t place = 0; place < size; place++) {
        PyObject *members = PyTuple_GET_ITEM(given, (Py_ssize_t)place);
        if (!PyBytes_CheckExact(members)) {
            PyErr_SetString(PyExc_TypeError, "the members of a place are bytes");
            return -1;
        }
        for (Py_ssize_t k = 0; k < PyBytes_GET_SIZE(members); k++)
            g->may[place][(unsigned char)PyBytes_AS_STRING(members)[k]][word] |= bit;
    }
    for (size_t place = size; place < MAX_BEGINNING; place++) {
        g->ended[place][word] |= bit;
        for (unsigned c = 0; c < 256; c++)
            g->may[place][c][word] |= bit;
    }
    return 0;
}

static PyObject *hints_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *given;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &given))
        return NULL;
    if (PyTuple_GET_SIZE(given) > MAX_BEGINNINGS) {
        PyErr_SetString(PyExc_ValueError, "too many beginnings");
        return NULL;
    }
    Hints *self = (Hints *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->count = ((size_t)PyTuple_GET_SIZE(given) + LANES - 1) / LANES;
    self->groups = PyMem_Calloc(self->count, sizeof *self->groups);
    if (self->groups == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given); i++)
        if (add_beginning(self, i, PyTuple_GET_ITEM(given, i)) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    return (PyObject *)self;
}

static PyObject *hints_stand_in(Hints *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "bytes are due");
        return NULL;
    }
    text value = {(const unsigned char *)PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)};
    return PyBool_FromLong(is_hinted(self, value));
}

static PyMethodDef hints_methods[] = {{"stand_in", (PyCFunction)hints_stand_in, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static PyTypeObject HintsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "processors.native._kernel.Hints",
    .tp_basicsize = sizeof(Hints),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = hints_new,
    .tp_dealloc = (destructor)hints_dealloc,
    .tp_methods = hints_methods,
};

/* -- a run's session */

typedef struct {
    PyObject_HEAD
    keyed mac;   /* has absorbed the topic */
    PyObject *source, *instance, *epoch, *key;
    double not_before_s, not_after_s;
} Session;

static void session_dealloc(Session *self)
{
    Py_XDECREF(self->source);
    Py_XDECREF(self->instance);
    Py_XDECREF(self->epoch);
    Py_XDECREF(self->key);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *key, *topic, *source, *instance, *epoch, *record_key;
    long long not_before, not_after;
    if (!PyArg_ParseTuple(args, "SSSSSSLL", &key, &topic, &source, &instance, &epoch, &record_key, &not_before, &not_after))
        return NULL;
    if (not_before < -EXACT_MS || not_before > EXACT_MS || not_after < -EXACT_MS || not_after > EXACT_MS) {
        PyErr_SetString(PyExc_ValueError, "a certificate's time out of range");
        return NULL;
    }
    Session *self = (Session *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    keyed_begin(&self->mac, (const unsigned char *)PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
    sha_update(&self->mac.inner, PyBytes_AS_STRING(topic), (size_t)PyBytes_GET_SIZE(topic));
    self->source = Py_NewRef(source);
    self->instance = Py_NewRef(instance);
    self->epoch = Py_NewRef(epoch);
    self->key = Py_NewRef(record_key);
    self->not_before_s = (double)not_before;
    self->not_after_s = (double)not_after;
    return (PyObject *)self;
}

static PyTypeObject SessionType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "processors.native._kernel.Session",
    .tp_basicsize = sizeof(Session),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = session_new,
    .tp_dealloc = (destructor)session_dealloc,
};

/* Said by its run, under its key, within the certificate's time, and its MAC right; the header's session is the caller's. */
static int is_authentic(const Session *self, const event *e, PyObject *key, PyObject *value, PyObject *mac, int64_t ms)
{
    unsigned char digest[DIGEST_SIZE], number[8];
    double time_s = (double)ms / 1000;
    if (!equals_bytes(e->texts[SOURCE], self->source) || !equals_bytes(e->texts[INSTANCE], self->instance) ||
        !equals_bytes(e->texts[EPOCH], self->epoch) || PyBytes_GET_SIZE(mac) != DIGEST_SIZE)
        return 0;
    text given = {(const unsigned char *)PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};
    if (!equals_bytes(given, self->key) || time_s < self->not_before_s || time_s > self->not_after_s)
        return 0;
    sha inner = self->mac.inner;
    digest_of(PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value), digest);
    big_endian((uint64_t)e->numbers[SEQ], number);
    sha_update(&inner, number, sizeof number);
    sha_update(&inner, digest, sizeof digest);
    keyed_end(&self->mac, &inner, digest);
    return same_digest(digest, (const unsigned char *)PyBytes_AS_STRING(mac));
}

/* -- signatures: the last thing of a sealed event, and nothing that is linked depends on them */

#define ED25519 1087    /* as libcrypto numbers it */
#define SIGNED_APART 8  /* so many are worth a thread, and later waking it */

typedef struct {
    PyObject_HEAD
    void *key;
    PyObject *context, *tail; /* before what is signed; before the signature, in a sealed event */
} Signer;

/* The signature of a leaf hash. Needs no GIL. */
static int sign_leaf(const Signer *self, void *signing, const unsigned char *leaf, unsigned char *signature)
{
    unsigned char message[MAX_CONTEXT + DIGEST_SIZE];
    size_t before = (size_t)PyBytes_GET_SIZE(self->context), size = SIGNATURE_SIZE;
    memcpy(message, PyBytes_AS_STRING(self->context), before);
    memcpy(message + before, leaf, DIGEST_SIZE);
    return signing_begin(signing, NULL, NULL, NULL, self->key) == 1 &&
                   signing_end(signing, signature, &size, message, before + DIGEST_SIZE) == 1 && size == SIGNATURE_SIZE
               ? 0
               : -1;
}

static void signer_dealloc(Signer *self)
{
    if (self->key != NULL)
        key_free(self->key);
    Py_XDECREF(self->context);
    Py_XDECREF(self->tail);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *signer_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *private, *context, *tail;
    if (!PyArg_ParseTuple(args, "SSS", &private, &context, &tail))
        return NULL;
    if (PyBytes_GET_SIZE(private) != DIGEST_SIZE || PyBytes_GET_SIZE(context) > MAX_CONTEXT ||
        PyBytes_GET_SIZE(tail) > MAX_CONTEXT) {
        PyErr_SetString(PyExc_ValueError, "a private key of 32 bytes, a context and a tail that are not too long");
        return NULL;
    }
    if (!can_sign()) {
        PyErr_SetString(PyExc_NotImplementedError, "this libcrypto does not sign with Ed25519");
        return NULL;
    }
    Signer *self = (Signer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->context = Py_NewRef(context);
    self->tail = Py_NewRef(tail);
    self->key = key_new(ED25519, NULL, (const unsigned char *)PyBytes_AS_STRING(private), DIGEST_SIZE);
    void *signing = self->key == NULL ? NULL : signing_new();
    unsigned char leaf[DIGEST_SIZE] = {0}, signature[SIGNATURE_SIZE];
    int outcome = signing == NULL ? -1 : sign_leaf(self, signing, leaf, signature); /* a policy may forbid it: better now */
    signing_free(signing);
    if (outcome < 0) {
        PyErr_SetString(PyExc_NotImplementedError, "this libcrypto does not sign with Ed25519");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *signer_sign(Signer *self, PyObject *leaf)
{
    unsigned char signature[SIGNATURE_SIZE];
    if (!PyBytes_CheckExact(leaf) || PyBytes_GET_SIZE(leaf) != DIGEST_SIZE) {
        PyErr_SetString(PyExc_ValueError, "a leaf hash is 32 bytes");
        return NULL;
    }
    void *signing = signing_new();
    int outcome = signing == NULL ? -1 : sign_leaf(self, signing, (unsigned char *)PyBytes_AS_STRING(leaf), signature);
    signing_free(signing);
    if (outcome < 0) {
        PyErr_SetString(PyExc_NotImplementedError, "libcrypto does not sign");
        return NULL;
    }
    return PyBytes_FromStringAndSize((const char *)signature, SIGNATURE_SIZE);
}

static PyMethodDef signer_methods[] = {{"sign", (PyCFunction)signer_sign, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static PyTypeObject SignerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "processors.native._kernel.Signer",
    .tp_basicsize = sizeof(Signer),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = signer_new,
    .tp_dealloc = (destructor)signer_dealloc,
    .tp_methods = signer_methods,
};

typedef struct {
    PyObject *value; /* a sealed event, whose end is its signature */
    unsigned char leaf[DIGEST_SIZE];
} unsigned_event;

/* The signatures of one stretch: made on a thread of its own while the stretch goes on, if there are enough of them. */
typedef struct {
    Signer *signer;
    unsigned_event *events;
    size_t made, room; /* `made` under the lock once there is a thread */
    int is_apart, is_last, has_failed;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
} signatures;

static int sign_events(const signatures *self, void *signing, size_t from, size_t to)
{
    int outcome = 0;
    for (size_t i = from; i < to; i++) {
        unsigned char *value = (unsigned char *)PyBytes_AS_STRING(self->events[i].value);
        size_t size = (size_t)PyBytes_GET_SIZE(self->events[i].value);
        outcome |= sign_leaf(self->signer, signing, self->events[i].leaf, value + size - SIGNATURE_SIZE);
    }
    return outcome;
}

static void *sign_apart(void *given)
{
    signatures *self = given;
    void *signing = signing_new();
    int failed = signing == NULL;
    size_t at = 0;
    pthread_mutex_lock(&self->lock);
    while (at < self->made || !self->is_last) {
        if (at == self->made) {
            pthread_cond_wait(&self->more, &self->lock);
            continue;
        }
        size_t until = self->made;
        pthread_mutex_unlock(&self->lock);
        if (!failed)
            failed = sign_events(self, signing, at, until) < 0;
        at = until;
        pthread_mutex_lock(&self->lock);
    }
    self->has_failed = failed;
    pthread_mutex_unlock(&self->lock);
    signing_free(signing);
    return NULL;
}

/* A thread that gets no signals: they are for Python's. If there can be none, they are signed at the end. */
static void begin_apart(signatures *self)
{
    sigset_t all, before;
    if (pthread_mutex_init(&self->lock, NULL) != 0)
        return;
    if (pthread_cond_init(&self->more, NULL) != 0) {
        pthread_mutex_destroy(&self->lock);
        return;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    self->is_apart = pthread_create(&self->thread, NULL, sign_apart, self) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!self->is_apart) {
        pthread_cond_destroy(&self->more);
        pthread_mutex_destroy(&self->lock);
    }
}

/* This event is to be signed; `room` is how many there may be. */
static int sign_later(signatures *self, PyObject *value, const unsigned char *leaf)
{
    if (self->events == NULL) {
        self->events = PyMem_Calloc(self->room, sizeof *self->events);
        if (self->events == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    if (self->made == self->room) {
        PyErr_SetString(PyExc_RuntimeError, "more signatures than records");
        return -1;
    }
    self->events[self->made].value = Py_NewRef(value);
    memcpy(self->events[self->made].leaf, leaf, DIGEST_SIZE);
    if (!self->is_apart) {
        self->made++;
        if (self->made == SIGNED_APART)
            begin_apart(self);
        return 0;
    }
    pthread_mutex_lock(&self->lock);
    self->made++;
    pthread_mutex_unlock(&self->lock);
    if (self->made % SIGNED_APART == 0)
        pthread_cond_signal(&self->more);
    return 0;
}

/* Wait for all signatures; or make them now. */
static int end_signatures(signatures *self)
{
    if (self->made == 0)
        return 0;
    Py_BEGIN_ALLOW_THREADS
    if (self->is_apart) {
        pthread_mutex_lock(&self->lock);
        self->is_last = 1;
        pthread_mutex_unlock(&self->lock);
        pthread_cond_signal(&self->more);
        pthread_join(self->thread, NULL);
        pthread_cond_destroy(&self->more);
        pthread_mutex_destroy(&self->lock);
    } else {
        void *signing = signing_new();
        self->has_failed = signing == NULL || sign_events(self, signing, 0, self->made) < 0;
        signing_free(signing);
    }
    Py_END_ALLOW_THREADS
    for (size_t i = 0; i < self->made; i++)
        Py_DECREF(self->events[i].value);
    self->made = 0;
    return self->has_failed ? -1 : 0;
}

/* -- what seals of one sort have in common: processors.chain.Plan */

#define WORDS_SIZE 6

typedef struct {
    PyObject_HEAD
    keyed scope;
    unsigned char words[2][WORDS_SIZE];
    int sign;
    PyObject *until, *policy, *schema, *outputs, *plan;
} Plan;

static int plan_traverse(Plan *self, visitproc visit, void *arg)
{
    Py_VISIT(self->outputs);
    Py_VISIT(self->plan);
    return 0;
}

/* There is no tp_clear: a cycle that a plan is in has lists or a dict, which have one. */
static void plan_dealloc(Plan *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->until);
    Py_XDECREF(self->policy);
    Py_XDECREF(self->schema);
    Py_XDECREF(self->outputs);
    Py_XDECREF(self->plan);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *plain, *signed_, *until, *scope, *policy, *schema, *outputs, *plan;
    int sign;
    if (!PyArg_ParseTuple(
            args, "SSpSSSSO!O", &plain, &signed_, &sign, &until, &scope, &policy, &schema, &PyTuple_Type, &outputs, &plan))
        return NULL;
    int right = PyBytes_GET_SIZE(plain) == WORDS_SIZE && PyBytes_GET_SIZE(signed_) == WORDS_SIZE &&
                PyBytes_GET_SIZE(until) <= MAX_NUMBER_SIZE && PyBytes_GET_SIZE(policy) == DIGEST_SIZE &&
                PyBytes_GET_SIZE(schema) == DIGEST_SIZE;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(outputs); i++)
        right = right && PyList_CheckExact(PyTuple_GET_ITEM(outputs, i));
    if (!right) {
        PyErr_SetString(PyExc_ValueError, "a plan's part of another size or type");
        return NULL;
    }
    Plan *self = (Plan *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    keyed_begin(&self->scope, (const unsigned char *)PyBytes_AS_STRING(scope), (size_t)PyBytes_GET_SIZE(scope));
    memcpy(self->words[0], PyBytes_AS_STRING(plain), WORDS_SIZE);
    memcpy(self->words[1], PyBytes_AS_STRING(signed_), WORDS_SIZE);
    self->sign = sign;
    self->until = Py_NewRef(until);
    self->policy = Py_NewRef(policy);
    self->schema = Py_NewRef(schema);
    self->outputs = Py_NewRef(outputs);
    self->plan = Py_NewRef(plan);
    return (PyObject *)self;
}

static PyTypeObject PlanType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "processors.native._kernel.Plan",
    .tp_basicsize = sizeof(Plan),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = (traverseproc)plan_traverse,
    .tp_new = plan_new,
    .tp_dealloc = (destructor)plan_dealloc,
};

/* -- the good case of one transaction of a chain */

typedef struct {
    PyObject_HEAD
    PyObject *locators; /* a tuple of them: one of each version of the event */
    Hints *hints;
    PyObject *close, *seal_header, *event_header, *sealed_at, *chain;
    PyObject *secret, *run, *plan, *content, *attest, *flush, *random; /* calls; see processors/native/__init__.py */
    PyObject *plans;      /* by key: a Plan, or None */
    unsigned char *seal;  /* the seal that is being made */
    int busy;
} Sealing;

typedef struct {
    Session *session;
    PyObject *header, *about;
    int64_t high_water, events;
} run;

typedef struct {
    PyObject *key; /* of its parts, each after its length */
    int64_t events, recipients;
} row;

/* Rows in the order in which they came first, found by key. */
typedef struct {
    PyObject *places; /* key: index */
    buffer rows;
    size_t last;
} table;

/* A seal that is not linked yet. */
typedef struct {
    Plan *plan; /* NULL: none */
    PyObject *content;
    unsigned char event_id[ID_SIZE], salt[SALT_SIZE];
    int64_t offset;
} held;

typedef struct {
    Sealing *sealing;
    event event;
    held held;
    uint64_t seq;
    unsigned char prev[DIGEST_SIZE];
    int64_t offset; /* the next one */
    PyObject *salts;
    Py_ssize_t salted;
    PyObject *places; /* of runs, by header */
    buffer runs;
    size_t last_run;
    table acted, passed;
    buffer key;
    signatures signatures;
} stretch;

static run *run_at(stretch *s, size_t index)
{
    return (run *)(void *)s->runs.data + index;
}

static void table_free(table *self)
{
    for (size_t i = 0; i < self->rows.size / sizeof(row); i++)
        Py_XDECREF(((row *)(void *)self->rows.data)[i].key);
    PyMem_Free(self->rows.data);
    Py_XDECREF(self->places);
}

static void stretch_free(stretch *s)
{
    for (size_t i = 0; i < s->runs.size / sizeof(run); i++) {
        Py_XDECREF(run_at(s, i)->session);
        Py_XDECREF(run_at(s, i)->header);
        Py_XDECREF(run_at(s, i)->about);
    }
    PyMem_Free(s->runs.data);
    Py_XDECREF(s->places);
    Py_XDECREF(s->held.plan);
    Py_XDECREF(s->held.content);
    Py_XDECREF(s->salts);
    table_free(&s->acted);
    table_free(&s->passed);
    PyMem_Free(s->signatures.events);
    PyMem_Free(s->key.data);
    event_free(&s->event);
    PyMem_Free(s);
}

/* Puts index at the key in the dict. */
static int remember(PyObject *places, PyObject *key, size_t index)
{
    PyObject *number = PyLong_FromSize_t(index);
    int outcome = number == NULL ? -1 : PyDict_SetItem(places, key, number);
    Py_XDECREF(number);
    return outcome;
}

/* One more event in the row of s->key; a new row at the first one. */
static int count_row(stretch *s, table *t, int64_t recipients)
{
    size_t count = t->rows.size / sizeof(row);
    row *rows = (row *)(void *)t->rows.data;
    text key = {s->key.data, s->key.size};
    size_t index = t->last;
    if (!count || !equals_bytes(key, rows[index].key)) {
        PyObject *bytes = bytes_of(key);
        if (bytes == NULL)
            return -1;
        PyObject *found = PyDict_GetItemWithError(t->places, bytes);
        if (found != NULL) {
            index = PyLong_AsSize_t(found);
        } else {
            row made = {bytes, 0, 0};
            index = count;
            if (PyErr_Occurred() || remember(t->places, bytes, index) < 0 || put(&t->rows, &made, sizeof made) < 0) {
                Py_DECREF(bytes);
                return -1;
            }
            Py_INCREF(bytes); /* the row's */
        }
        Py_DECREF(bytes);
    }
    rows = (row *)(void *)t->rows.data;
    t->last = index;
    rows[index].events++;
    rows[index].recipients += recipients;
    return 0;
}

static int put_text(buffer *key, text value)
{
    uint32_t size = (uint32_t)value.size;
    return put(key, &size, sizeof size) < 0 || put(key, value.at, value.size) < 0 ? -1 : 0;
}

static int count_event(stretch *s, const event *e)
{
    unsigned char symbol = (unsigned char)e->numbers[RESULT];
    s->key.size = 0;
    if (put(&s->key, &symbol, 1) < 0 || put_text(&s->key, e->texts[TENANT]) < 0 || put_text(&s->key, e->texts[ACTOR]) < 0 ||
        put_text(&s->key, e->texts[EVENT_NAME]) < 0 || count_row(s, &s->acted, 0) < 0)
        return -1;
    if (!(e->has >> STAGE & 1) || !(e->has >> CORRELATION & 1))
        return 0;
    symbol = (unsigned char)e->numbers[STAGE];
    s->key.size = 0;
    if (put(&s->key, &symbol, 1) < 0 || put_text(&s->key, e->texts[TENANT]) < 0 ||
        put_text(&s->key, e->texts[CORRELATION]) < 0)
        return -1;
    return count_row(s, &s->passed, e->numbers[RECIPIENTS]);
}

/* A row's texts, its symbol and its counts. */
static PyObject *row_of(const row *self, int texts, int recipients)
{
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(self->key);
    Py_ssize_t place = 0;
    PyObject *made = PyTuple_New(texts + 2 + recipients);
    if (made == NULL)
        return NULL;
    unsigned char symbol = *at++;
    for (; place < texts; place++) {
        uint32_t size;
        memcpy(&size, at, sizeof size);
        PyObject *part = PyBytes_FromStringAndSize((const char *)at + sizeof size, (Py_ssize_t)size);
        at += sizeof size + size;
        if (part == NULL)
            goto failed;
        PyTuple_SET_ITEM(made, place, part);
    }
    long long numbers[] = {symbol, self->events, self->recipients};
    for (int i = 0; i < 2 + recipients; i++) {
        PyObject *number = PyLong_FromLongLong(numbers[i]);
        if (number == NULL)
            goto failed;
        PyTuple_SET_ITEM(made, place++, number);
    }
    return made;
failed:
    Py_DECREF(made);
    return NULL;
}

static PyObject *rows_of(const table *t, int texts, int recipients)
{
    size_t count = t->rows.size / sizeof(row);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *made = row_of((const row *)(const void *)t->rows.data + i, texts, recipients);
        if (made == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, made);
    }
    return list;
}

static PyObject *runs_of(stretch *s)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < s->runs.size / sizeof(run); i++) {
        const run *r = run_at(s, i);
        if (r->events == 0)
            continue;
        PyObject *made = Py_BuildValue("(OLL)", r->about, (long long)r->high_water, (long long)r->events);
        if (made == NULL || PyList_Append(list, made) < 0)
            Py_CLEAR(list);
        Py_XDECREF(made);
    }
    return list;
}

/* Links what is held, and appends the sealed event to the outputs of its plan. */
static int link_held(stretch *s)
{
    static const char context[] = "sealtrail/content/v1\n";
    Sealing *self = s->sealing;
    held *h = &s->held;
    Plan *plan = h->plan;
    unsigned char leaf[DIGEST_SIZE], scope[DIGEST_SIZE], number[8];
    unsigned char *at = self->seal, *content = (unsigned char *)PyBytes_AS_STRING(h->content);
    size_t size = (size_t)PyBytes_GET_SIZE(h->content);
    sha hash;
#define APPEND(data, length) (memcpy(at, (data), (length)), at += (length))
#define APPEND_BYTES(object) APPEND(PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object))
    APPEND_BYTES(self->seal_header);
    APPEND(s->prev, DIGEST_SIZE);
    sha_init(&hash);
    sha_update(&hash, context, sizeof context - 1);
    sha_update(&hash, h->salt, SALT_SIZE);
    sha_update(&hash, PyBytes_AS_STRING(plan->policy), DIGEST_SIZE);
    sha_update(&hash, PyBytes_AS_STRING(plan->schema), DIGEST_SIZE);
    sha_update(&hash, h->event_id, ID_SIZE);
    sha_update(&hash, content, size);
    sha_final(at, &hash);
    at += DIGEST_SIZE;
    hash = plan->scope.inner;
    big_endian(s->seq, number);
    sha_update(&hash, number, sizeof number);
    keyed_end(&plan->scope, &hash, scope);
    APPEND(scope, SCOPE_SIZE);
    APPEND(plan->words[plan->sign], WORDS_SIZE);
    at += put_number(at, s->seq);
    at += put_number(at, (uint64_t)h->offset);
    at += put_number(at, 1);
    APPEND_BYTES(self->sealed_at);
    APPEND_BYTES(plan->until);
    APPEND_BYTES(self->chain);
    size_t seal_size = (size_t)(at - self->seal);
    sha_init(&hash);
    sha_update(&hash, "", 1); /* RFC 6962: a leaf's zero */
    sha_update(&hash, self->seal, seal_size);
    sha_final(leaf, &hash);

    Signer *signer = plan->sign ? s->signatures.signer : NULL;
    PyObject *attested = NULL;
    if (plan->sign && signer == NULL) {
        attested = PyObject_CallFunction(self->attest, "y#", (const char *)leaf, (Py_ssize_t)DIGEST_SIZE);
        if (attested == NULL)
            return -1;
        if (!PyBytes_CheckExact(attested)) {
            PyErr_SetString(PyExc_TypeError, "a signature is bytes");
            Py_DECREF(attested);
            return -1;
        }
    }
    unsigned char sizes[2][MAX_NUMBER_SIZE];
    size_t first = put_number(sizes[0], seal_size), second = put_number(sizes[1], size);
    size_t event_header = (size_t)PyBytes_GET_SIZE(self->event_header);
    size_t last = attested != NULL ? (size_t)PyBytes_GET_SIZE(attested)
                  : signer != NULL ? (size_t)PyBytes_GET_SIZE(signer->tail) + SIGNATURE_SIZE
                                   : 1;
    size_t whole = event_header + first + seal_size + SALT_SIZE + 2 * DIGEST_SIZE + ID_SIZE + second + size + last;
    PyObject *value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)whole);
    if (value == NULL) {
        Py_XDECREF(attested);
        return -1;
    }
    at = (unsigned char *)PyBytes_AS_STRING(value);
    APPEND_BYTES(self->event_header);
    APPEND(sizes[0], first);
    APPEND(self->seal, seal_size);
    APPEND(h->salt, SALT_SIZE);
    APPEND_BYTES(plan->policy);
    APPEND_BYTES(plan->schema);
    APPEND(h->event_id, ID_SIZE);
    APPEND(sizes[1], second);
    APPEND(content, size);
    if (attested != NULL)
        APPEND_BYTES(attested);
    else if (signer != NULL) {
        APPEND_BYTES(signer->tail);
        memset(at, 0, SIGNATURE_SIZE);
    } else
        *at = 0;
#undef APPEND_BYTES
#undef APPEND
    Py_XDECREF(attested);
    int outcome = signer == NULL ? 0 : sign_later(&s->signatures, value, leaf);
    for (Py_ssize_t i = 0; outcome == 0 && i < PyTuple_GET_SIZE(plan->outputs); i++)
        outcome = PyList_Append(PyTuple_GET_ITEM(plan->outputs, i), value);
    Py_DECREF(value);
    memcpy(s->prev, leaf, DIGEST_SIZE);
    s->seq++;
    Py_CLEAR(h->plan);
    Py_CLEAR(h->content);
    return outcome;
}

/* What Python's writer holds is linked there: now it is known not to be the last. Then chain and number go on from it. */
static int begin(stretch *s)
{
    PyObject *where = PyObject_CallNoArgs(s->sealing->flush);
    if (where == NULL)
        return -1;
    PyObject *prev;
    long long seq;
    int outcome = -1;
    if (!PyTuple_Check(where))
        PyErr_SetString(PyExc_TypeError, "flush: a tuple is due");
    else if (PyArg_ParseTuple(where, "LS", &seq, &prev)) {
        if (seq < 0 || seq >= INT64_MAX / 2 || PyBytes_GET_SIZE(prev) != DIGEST_SIZE) {
            PyErr_SetString(PyExc_ValueError, "flush: seq or prev out of range");
        } else {
            s->seq = (uint64_t)seq;
            memcpy(s->prev, PyBytes_AS_STRING(prev), DIGEST_SIZE);
            outcome = 0;
        }
    }
    Py_DECREF(where);
    return outcome;
}

static int draw_salt(stretch *s, unsigned char *salt)
{
    if (PyBytes_GET_SIZE(s->salts) - s->salted < SALT_SIZE) {
        PyObject *drawn = PyObject_CallFunction(s->sealing->random, "i", SALTS * SALT_SIZE);
        if (drawn == NULL)
            return -1;
        if (!PyBytes_CheckExact(drawn) || PyBytes_GET_SIZE(drawn) != SALTS * SALT_SIZE) {
            PyErr_SetString(PyExc_ValueError, "random: too many bytes, or too few");
            Py_DECREF(drawn);
            return -1;
        }
        Py_SETREF(s->salts, drawn);
        s->salted = 0;
    }
    memcpy(salt, PyBytes_AS_STRING(s->salts) + s->salted, SALT_SIZE);
    s->salted += SALT_SIZE;
    return 0;
}

/* The values of st-session and st-mac, each there once; borrowed. */
static int read_headers(PyObject *headers, PyObject **session, PyObject **mac)
{
    if (!PyTuple_Check(headers) && !PyList_Check(headers))
        return SLOW;
    *session = *mac = NULL;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(headers); i++) {
        PyObject *header = PySequence_Fast_GET_ITEM(headers, i);
        if (!PyTuple_Check(header) || PyTuple_GET_SIZE(header) != 2 || !PyUnicode_CheckExact(PyTuple_GET_ITEM(header, 0)))
            return SLOW;
        PyObject *name = PyTuple_GET_ITEM(header, 0);
        PyObject **place = PyUnicode_CompareWithASCIIString(name, "st-session") == 0 ? session
                           : PyUnicode_CompareWithASCIIString(name, "st-mac") == 0   ? mac
                                                                                     : NULL;
        if (place == NULL)
            continue;
        if (*place != NULL || !PyBytes_CheckExact(PyTuple_GET_ITEM(header, 1)))
            return SLOW;
        *place = PyTuple_GET_ITEM(header, 1);
    }
    return *session != NULL && *mac != NULL ? GOOD : SLOW;
}

/* The index of the run whose session this header states; the first time Python is asked. */
static int find_run(stretch *s, PyObject *header, size_t *index)
{
    size_t count = s->runs.size / sizeof(run);
    text given = {(const unsigned char *)PyBytes_AS_STRING(header), (size_t)PyBytes_GET_SIZE(header)};
    if (count && equals_bytes(given, run_at(s, s->last_run)->header)) {
        *index = s->last_run;
        return GOOD;
    }
    PyObject *found = PyDict_GetItemWithError(s->places, header);
    if (found != NULL) {
        *index = s->last_run = PyLong_AsSize_t(found);
        return GOOD;
    }
    if (PyErr_Occurred())
        return FAIL;
    PyObject *answer = PyObject_CallFunctionObjArgs(s->sealing->run, header, NULL);
    if (answer == NULL || answer == Py_None) {
        Py_XDECREF(answer);
        return answer == NULL ? FAIL : SLOW;
    }
    run made = {0};
    long long high_water;
    if (!PyTuple_Check(answer)) {
        PyErr_SetString(PyExc_TypeError, "run: a tuple is due");
    } else if (PyArg_ParseTuple(answer, "O!LO", &SessionType, &made.session, &high_water, &made.about)) {
        made.high_water = high_water;
        made.header = header;
        if (remember(s->places, header, count) == 0 && put(&s->runs, &made, sizeof made) == 0) {
            Py_INCREF(made.session);
            Py_INCREF(made.header);
            Py_INCREF(made.about);
            Py_DECREF(answer);
            *index = s->last_run = count;
            return GOOD;
        }
    }
    Py_DECREF(answer);
    return FAIL;
}

/* The plan of the event's key: a new reference. */
static int find_plan(stretch *s, const event *e, PyObject *value, Plan **plan)
{
    Sealing *self = s->sealing;
    PyObject *key = PyBytes_FromStringAndSize((const char *)e->key.data, (Py_ssize_t)e->key.size);
    if (key == NULL)
        return FAIL;
    PyObject *found = Py_XNewRef(PyDict_GetItemWithError(self->plans, key));
    if (found == NULL && !PyErr_Occurred()) {
        found = PyObject_CallFunctionObjArgs(self->plan, key, value, NULL);
        if (found != NULL && found != Py_None && !Py_IS_TYPE(found, &PlanType)) {
            PyErr_SetString(PyExc_TypeError, "plan: a Plan is due");
            Py_CLEAR(found);
        }
        if (found != NULL && PyDict_SetItem(self->plans, key, found) < 0)
            Py_CLEAR(found);
    }
    Py_DECREF(key);
    if (found == NULL)
        return FAIL;
    if (found == Py_None) {
        Py_DECREF(found);
        return SLOW;
    }
    *plan = (Plan *)found;
    return GOOD;
}

/* Whether a text of the event holds a secret: Python is asked about those that have a hint. */
static int has_secret(stretch *s)
{
    int outcome = 0;
    const event *e = &s->event;
    for (size_t i = 0; outcome == 0 && i < e->spans.size / sizeof(text); i++) {
        text value = ((const text *)(const void *)e->spans.data)[i];
        if (!is_hinted(s->sealing->hints, value))
            continue;
        PyObject *answer = PyObject_CallFunction(s->sealing->secret, "y#", (const char *)value.at, (Py_ssize_t)value.size);
        outcome = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
    }
    return outcome;
}

/* What is sealed of an event: a new reference to its bytes, or to those with tokens. */
static int find_content(stretch *s, const event *e, PyObject *value, PyObject *about, PyObject **content)
{
    if (e->holes.size == 0) {
        *content = Py_NewRef(value);
        return GOOD;
    }
    PyObject *made = PyObject_CallFunction(
        s->sealing->content, "OOy#y#LN", value, about, (const char *)e->texts[TENANT].at, (Py_ssize_t)e->texts[TENANT].size,
        (const char *)e->texts[EVENT_ID].at, (Py_ssize_t)e->texts[EVENT_ID].size, (long long)e->numbers[SEQ], holes_of(e));
    if (made == NULL)
        return FAIL;
    if (made == Py_None) {
        Py_DECREF(made);
        return SLOW;
    }
    if (!PyBytes_CheckExact(made)) {
        PyErr_SetString(PyExc_TypeError, "content: bytes are due");
        Py_DECREF(made);
        return FAIL;
    }
    *content = made;
    return GOOD;
}

/* From here the record is sealed: what was held is linked, and this is held. Takes over plan and content. */
static int accept(stretch *s, size_t index, Plan *plan, PyObject *content)
{
    const event *e = &s->event;
    unsigned char salt[SALT_SIZE];
    if ((s->held.plan == NULL ? begin(s) : link_held(s)) < 0 || draw_salt(s, salt) < 0) {
        Py_DECREF(plan);
        Py_DECREF(content);
        return -1;
    }
    s->held.plan = plan;
    s->held.content = content;
    s->held.offset = s->offset++;
    memcpy(s->held.event_id, e->texts[EVENT_ID].at, ID_SIZE);
    memcpy(s->held.salt, salt, SALT_SIZE);
    run *r = run_at(s, index);
    r->high_water = e->numbers[SEQ];
    r->events++;
    return count_event(s, e);
}

/* The locator of the schema that an event was written with; NULL: none. */
static Locator *locator_of(Sealing *self, PyObject *value)
{
    text given = {(const unsigned char *)PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->locators); i++) {
        Locator *one = (Locator *)PyTuple_GET_ITEM(self->locators, i);
        size_t size = (size_t)PyBytes_GET_SIZE(one->header);
        if (given.size >= size && memcmp(given.at, PyBytes_AS_STRING(one->header), size) == 0)
            return one;
    }
    return NULL;
}

/* One record whose parts the caller holds. */
static int take_value(stretch *s, PyObject *key, PyObject *value, PyObject *header, PyObject *mac, int64_t ms)
{
    Sealing *self = s->sealing;
    event *e = &s->event;
    Plan *plan = NULL;
    PyObject *content = NULL;
    size_t index;
    Locator *locator = locator_of(self, value);
    int outcome = locator == NULL ? SLOW : locate(locator, e, value);
    if (outcome != GOOD)
        return outcome;
    if (e->numbers[SEQ] <= 0 || equals_bytes(e->texts[EVENT_NAME], self->close))
        return SLOW;
    outcome = find_run(s, header, &index);
    if (outcome != GOOD)
        return outcome;
    /* `runs` grows only in find_run: index stays right, a pointer into it would not. */
    if (!is_authentic(run_at(s, index)->session, e, key, value, mac, ms) ||
        e->numbers[SEQ] - 1 != run_at(s, index)->high_water)
        return SLOW;
    outcome = has_secret(s);
    if (outcome != 0) {
        if (outcome < 0 && !PyErr_ExceptionMatches(PyExc_Exception))
            return FAIL;
        PyErr_Clear(); /* Python asks again, and says so */
        return SLOW;
    }
    outcome = find_plan(s, e, value, &plan);
    if (outcome != GOOD)
        return outcome;
    outcome = find_content(s, e, value, run_at(s, index)->about, &content);
    if (outcome != GOOD) {
        Py_DECREF(plan);
        return outcome;
    }
    return accept(s, index, plan, content) < 0 ? FAIL : GOOD;
}

static int take_record(stretch *s, PyObject *record)
{
    PyObject *header, *mac;
    int overflow[2];
    if (!PyTuple_Check(record) || PyTuple_GET_SIZE(record) != 5) /* offset, key, value, headers, appended_ms */
        return SLOW;
    PyObject *offset = PyTuple_GET_ITEM(record, 0), *appended = PyTuple_GET_ITEM(record, 4);
    PyObject *key = PyTuple_GET_ITEM(record, 1), *value = PyTuple_GET_ITEM(record, 2);
    if (!PyLong_CheckExact(offset) || !PyLong_CheckExact(appended) || !PyBytes_CheckExact(key) || !PyBytes_CheckExact(value))
        return SLOW;
    long long at = PyLong_AsLongLongAndOverflow(offset, &overflow[0]);
    long long ms = PyLong_AsLongLongAndOverflow(appended, &overflow[1]);
    if (overflow[0] || overflow[1] || at != s->offset || ms < -EXACT_MS || ms > EXACT_MS)
        return SLOW;
    if (read_headers(PyTuple_GET_ITEM(record, 3), &header, &mac) != GOOD)
        return SLOW;
    Py_INCREF(key);
    Py_INCREF(value);
    Py_INCREF(header); /* headers may be a list, which a call may change */
    Py_INCREF(mac);
    int outcome = take_value(s, key, value, header, mac, ms);
    Py_DECREF(key);
    Py_DECREF(value);
    Py_DECREF(header);
    Py_DECREF(mac);
    return outcome;
}

/* What was taken, for Python to go on with. */
static PyObject *stretch_result(stretch *s, Py_ssize_t count)
{
    const held *h = &s->held;
    return Py_BuildValue(
        "(nKy#(Oy#y#OL)OnNNN)", count, (unsigned long long)s->seq, (const char *)s->prev, (Py_ssize_t)DIGEST_SIZE,
        h->plan->plan, (const char *)h->event_id, (Py_ssize_t)ID_SIZE, (const char *)h->salt, (Py_ssize_t)SALT_SIZE,
        h->content, (long long)h->offset, s->salts, s->salted, runs_of(s), rows_of(&s->acted, 3, 0), rows_of(&s->passed, 2, 1));
}

static PyObject *sealing_take(Sealing *self, PyObject *args)
{
    PyObject *records, *salts;
    Py_ssize_t first, salted;
    long long offset;
    if (!PyArg_ParseTuple(args, "O!nLSn", &PyTuple_Type, &records, &first, &offset, &salts, &salted))
        return NULL;
    if (first < 0 || offset < 0 || offset > INT64_MAX - PyTuple_GET_SIZE(records) || salted < 0 ||
        salted > PyBytes_GET_SIZE(salts)) {
        PyErr_SetString(PyExc_ValueError, "take: a number out of range");
        return NULL;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "take: called while it runs");
        return NULL;
    }
    stretch *s = PyMem_Calloc(1, sizeof *s);
    if (s == NULL)
        return PyErr_NoMemory();
    s->sealing = self;
    s->offset = offset;
    s->salts = Py_NewRef(salts);
    s->salted = salted;
    s->signatures.signer = Py_IS_TYPE(self->attest, &SignerType) ? (Signer *)self->attest : NULL;
    s->signatures.room = (size_t)PyTuple_GET_SIZE(records);
    s->places = PyDict_New();
    s->acted.places = PyDict_New();
    s->passed.places = PyDict_New();
    int outcome = s->places == NULL || s->acted.places == NULL || s->passed.places == NULL ? FAIL : GOOD;
    Py_ssize_t at = first;
    self->busy = 1;
    while (outcome == GOOD && at < PyTuple_GET_SIZE(records)) {
        outcome = take_record(s, PyTuple_GET_ITEM(records, at));
        at += outcome == GOOD;
    }
    if (end_signatures(&s->signatures) < 0 && outcome != FAIL) {
        PyErr_SetString(PyExc_NotImplementedError, "libcrypto does not sign");
        outcome = FAIL;
    }
    self->busy = 0;
    PyObject *result = NULL;
    if (outcome != FAIL)
        result = at == first ? Py_NewRef(Py_None) : stretch_result(s, at - first);
    stretch_free(s);
    return result;
}

static int sealing_traverse(Sealing *self, visitproc visit, void *arg)
{
    Py_VISIT(self->secret);
    Py_VISIT(self->run);
    Py_VISIT(self->plan);
    Py_VISIT(self->content);
    Py_VISIT(self->attest);
    Py_VISIT(self->flush);
    Py_VISIT(self->random);
    Py_VISIT(self->plans);
    return 0;
}

/* There is no tp_clear, so nothing is NULL while it can be called: its calls are bound methods, of what has one. */
static void sealing_dealloc(Sealing *self)
{
    PyObject_GC_UnTrack(self);
    PyObject *parts[] = {
        self->locators, (PyObject *)self->hints, self->close, self->seal_header, self->event_header, self->sealed_at,
        self->chain, self->secret, self->run, self->plan, self->content, self->attest, self->flush, self->random, self->plans};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        Py_XDECREF(parts[i]);
    PyMem_Free(self->seal);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *sealing_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *locators, *hints, *close, *seal_header, *event_header, *sealed_at, *chain;
    PyObject *secret, *run_, *plan, *content, *attest, *flush, *random;
    if (!PyArg_ParseTuple(
            args, "O!O!SSSSSOOOOOOO", &PyTuple_Type, &locators, &HintsType, &hints, &close, &seal_header, &event_header,
            &sealed_at, &chain, &secret, &run_, &plan, &content, &attest, &flush, &random))
        return NULL;
    if (PyBytes_GET_SIZE(chain) > MAX_CHAIN || PyBytes_GET_SIZE(sealed_at) > MAX_NUMBER_SIZE ||
        PyBytes_GET_SIZE(seal_header) > DIGEST_SIZE || PyBytes_GET_SIZE(event_header) > DIGEST_SIZE) {
        PyErr_SetString(PyExc_ValueError, "a part of the seal that is too long");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(locators); i++)
        if (!Py_IS_TYPE(PyTuple_GET_ITEM(locators, i), &LocatorType)) {
            PyErr_SetString(PyExc_TypeError, "Locators are due");
            return NULL;
        }
    Sealing *self = (Sealing *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->locators = Py_NewRef(locators);
    self->hints = (Hints *)Py_NewRef(hints);
    self->close = Py_NewRef(close);
    self->seal_header = Py_NewRef(seal_header);
    self->event_header = Py_NewRef(event_header);
    self->sealed_at = Py_NewRef(sealed_at);
    self->chain = Py_NewRef(chain);
    self->secret = Py_NewRef(secret);
    self->run = Py_NewRef(run_);
    self->plan = Py_NewRef(plan);
    self->content = Py_NewRef(content);
    self->attest = Py_NewRef(attest);
    self->flush = Py_NewRef(flush);
    self->random = Py_NewRef(random);
    self->plans = PyDict_New();
    /* Header, two digests, scope, words; seq, offset, count, sealed_at, until; chain: bounded above and by `plan_new`. */
    self->seal = PyMem_Malloc(4 * DIGEST_SIZE + WORDS_SIZE + 5 * MAX_NUMBER_SIZE + MAX_CHAIN);
    if (self->plans == NULL || self->seal == NULL) {
        if (self->seal == NULL)
            PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef sealing_methods[] = {{"take", (PyCFunction)sealing_take, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static PyTypeObject SealingType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "processors.native._kernel.Sealing",
    .tp_basicsize = sizeof(Sealing),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = (traverseproc)sealing_traverse,
    .tp_new = sealing_new,
    .tp_dealloc = (destructor)sealing_dealloc,
    .tp_methods = sealing_methods,
};

/* -- what a poll brought: kafkaio.group.read_records */

enum { ERROR, PARTITION, OFFSET, KEY, VALUE, HEADERS, TIMESTAMP, ASKED };
static const char *const asked[ASKED] = {"error", "partition", "offset", "key", "value", "headers", "timestamp"};
static PyObject *asked_names[ASKED];

/* Whether the library could not show the name of one: it leaves its place empty, in case the error is not looked at. */
static int is_nameless(PyObject *headers)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        PyObject *one = PyList_GET_ITEM(headers, i);
        if (one == NULL || (PyTuple_Check(one) && PyTuple_GET_SIZE(one) > 0 && PyTuple_GET_ITEM(one, 0) == NULL))
            return 1;
    }
    return 0;
}

/* One header as (name, value); a value that is None is empty. What the record before had at this place is shared. */
static PyObject *header_of(PyObject *given, PyObject *before)
{
    if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != 2 || !PyUnicode_CheckExact(PyTuple_GET_ITEM(given, 0))) {
        PyErr_SetString(PyExc_TypeError, "a header is a name and a value");
        return NULL;
    }
    PyObject *name = PyTuple_GET_ITEM(given, 0), *value = PyTuple_GET_ITEM(given, 1);
    if (value == Py_None) {
        PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
        PyObject *made = empty == NULL ? NULL : PyTuple_Pack(2, name, empty);
        Py_XDECREF(empty);
        return made;
    }
    if (!PyBytes_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "a header's value is bytes");
        return NULL;
    }
    if (before != NULL && PyTuple_CheckExact(before) && PyTuple_GET_SIZE(before) == 2) {
        PyObject *its_name = PyTuple_GET_ITEM(before, 0), *its_value = PyTuple_GET_ITEM(before, 1);
        text one = {(const unsigned char *)PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
        if (PyUnicode_CheckExact(its_name) && PyBytes_CheckExact(its_value) && equals_bytes(one, its_value) &&
            PyUnicode_Compare(name, its_name) == 0)
            return Py_NewRef(before);
    }
    return Py_NewRef(given);
}

/* The headers of a message. None, of one of which a name is not UTF-8: the library says so by an error, with a result or not. */
static PyObject *headers_of(PyObject *message, PyObject *before)
{
    PyObject *found = PyObject_CallMethodNoArgs(message, asked_names[HEADERS]);
    if (PyErr_Occurred()) {
        Py_XDECREF(found);
        if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError) && !PyErr_ExceptionMatches(PyExc_SystemError))
            return NULL;
        PyErr_Clear();
        return PyTuple_New(0);
    }
    if (found == Py_None) {
        Py_DECREF(found);
        return PyTuple_New(0);
    }
    if (!PyList_CheckExact(found)) {
        Py_DECREF(found);
        PyErr_SetString(PyExc_TypeError, "headers are a list");
        return NULL;
    }
    if (is_nameless(found)) {
        Py_DECREF(found);
        return PyTuple_New(0);
    }
    Py_ssize_t size = PyList_GET_SIZE(found), shared = before == NULL ? 0 : PyTuple_GET_SIZE(before);
    PyObject *made = PyTuple_New(size);
    for (Py_ssize_t i = 0; made != NULL && i < size; i++) {
        PyObject *one = header_of(PyList_GET_ITEM(found, i), i < shared ? PyTuple_GET_ITEM(before, i) : NULL);
        if (one == NULL)
            Py_CLEAR(made);
        else
            PyTuple_SET_ITEM(made, i, one);
    }
    Py_DECREF(found);
    return made;
}

/* Bytes of a message, where None is none. */
static PyObject *bytes_in(PyObject *message, int what)
{
    PyObject *found = PyObject_CallMethodNoArgs(message, asked_names[what]);
    if (found == Py_None) {
        Py_DECREF(found);
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    if (found != NULL && !PyBytes_CheckExact(found)) {
        PyErr_SetString(PyExc_TypeError, "bytes are due");
        Py_CLEAR(found);
    }
    return found;
}

/* The list of the partition of a message; borrowed. */
static PyObject *list_for(PyObject *records, PyObject *message)
{
    PyObject *partition = PyObject_CallMethodNoArgs(message, asked_names[PARTITION]);
    PyObject *list = partition == NULL ? NULL : PyDict_GetItemWithError(records, partition);
    if (list == NULL && partition != NULL && !PyErr_Occurred()) {
        PyObject *made = PyList_New(0);
        if (made != NULL && PyDict_SetItem(records, partition, made) == 0)
            list = made; /* the dict's */
        Py_XDECREF(made);
    }
    Py_XDECREF(partition);
    return list;
}

/* A record of these five parts, which it takes over; nobody sees it before it has them. */
static PyObject *record_of(PyTypeObject *type, PyObject *const parts[5])
{
    PyObject *record = type->tp_alloc(type, 5);
    for (Py_ssize_t i = 0; record != NULL && i < 5; i++)
        PyTuple_SET_ITEM(record, i, parts[i]);
#if PY_VERSION_HEX >= 0x030E0000
    if (record != NULL)
        ((PyTupleObject *)record)->ob_hash = -1; /* not known yet */
#endif
    return record;
}

/* When a message was appended: a new reference. */
static PyObject *time_of(PyObject *message)
{
    PyObject *found = PyObject_CallMethodNoArgs(message, asked_names[TIMESTAMP]), *time = NULL;
    if (found != NULL && PyTuple_Check(found) && PyTuple_GET_SIZE(found) == 2)
        time = Py_NewRef(PyTuple_GET_ITEM(found, 1));
    else if (found != NULL)
        PyErr_SetString(PyExc_TypeError, "a timestamp is its type and the time");
    Py_XDECREF(found);
    return time;
}

/* A message as a record, after the others of its partition. */
static int add_record(PyTypeObject *type, PyObject *message, PyObject *list)
{
    Py_ssize_t size = PyList_GET_SIZE(list);
    PyObject *last = size ? PyList_GET_ITEM(list, size - 1) : NULL, *record = NULL, *parts[5] = {NULL};
    parts[0] = PyObject_CallMethodNoArgs(message, asked_names[OFFSET]);
    if (parts[0] != NULL && (parts[1] = bytes_in(message, KEY)) != NULL && (parts[2] = bytes_in(message, VALUE)) != NULL &&
        (parts[3] = headers_of(message, last == NULL ? NULL : PyTuple_GET_ITEM(last, 3))) != NULL &&
        (parts[4] = time_of(message)) != NULL) {
        text key = {(const unsigned char *)PyBytes_AS_STRING(parts[1]), (size_t)PyBytes_GET_SIZE(parts[1])};
        if (last != NULL && equals_bytes(key, PyTuple_GET_ITEM(last, 1)))
            Py_SETREF(parts[1], Py_NewRef(PyTuple_GET_ITEM(last, 1)));
        record = record_of(type, parts);
    }
    if (record == NULL)
        for (size_t i = 0; i < 5; i++)
            Py_XDECREF(parts[i]);
    int outcome = record == NULL ? -1 : PyList_Append(list, record);
    Py_XDECREF(record);
    return outcome;
}

static PyObject *kernel_records(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *type;
    PyObject *messages;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &type, &PyList_Type, &messages))
        return NULL;
    if (!PyType_IsSubtype(type, &PyTuple_Type) || type->tp_basicsize != PyTuple_Type.tp_basicsize || type->tp_dictoffset != 0) {
        PyErr_SetString(PyExc_TypeError, "a sort of tuple is due, without attributes of its own");
        return NULL;
    }
    PyObject *records = PyDict_New(), *others = PyList_New(0);
    int outcome = records == NULL || others == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; outcome == 0 && i < PyList_GET_SIZE(messages); i++) {
        PyObject *message = Py_NewRef(PyList_GET_ITEM(messages, i)); /* a call may change the list */
        PyObject *error = PyObject_CallMethodNoArgs(message, asked_names[ERROR]);
        if (error == NULL) {
            outcome = -1;
        } else if (error != Py_None) {
            outcome = PyList_Append(others, message);
        } else {
            PyObject *list = list_for(records, message);
            outcome = list == NULL ? -1 : add_record(type, message, list);
        }
        Py_XDECREF(error);
        Py_DECREF(message);
    }
    PyObject *result = outcome < 0 ? NULL : PyTuple_Pack(2, records, others);
    Py_XDECREF(records);
    Py_XDECREF(others);
    return result;
}

/* -- the module */

static PyObject *kernel_mac(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *key, *message;
    if (!PyArg_ParseTuple(args, "SS", &key, &message))
        return NULL;
    keyed under;
    unsigned char digest[DIGEST_SIZE];
    keyed_begin(&under, (const unsigned char *)PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
    sha inner = under.inner;
    sha_update(&inner, PyBytes_AS_STRING(message), (size_t)PyBytes_GET_SIZE(message));
    keyed_end(&under, &inner, digest);
    return PyBytes_FromStringAndSize((const char *)digest, DIGEST_SIZE);
}

static PyMethodDef kernel_methods[] = {
    {"records", kernel_records, METH_VARARGS, "Messages as records of a sort of tuple, by partition; and those with an error."},
    {"mac", kernel_mac, METH_VARARGS, "HMAC-SHA-256 (key, message), to hold against Python's."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef kernel_module = {
    PyModuleDef_HEAD_INIT, .m_name = "processors.native._kernel", .m_size = -1, .m_methods = kernel_methods};

PyMODINIT_FUNC PyInit__kernel(void)
{
    static PyTypeObject *const types[] = {&LocatorType, &HintsType, &SessionType, &SignerType, &PlanType, &SealingType};
    if (load_libcrypto() < 0)
        return NULL;
    for (size_t i = 0; i < ASKED; i++)
        if (asked_names[i] == NULL && (asked_names[i] = PyUnicode_InternFromString(asked[i])) == NULL)
            return NULL;
    PyObject *module = PyModule_Create(&kernel_module);
    for (size_t i = 0; module != NULL && i < sizeof types / sizeof *types; i++)
        if (PyModule_AddType(module, types[i]) < 0)
            Py_CLEAR(module);
    return module;
}
