/*
 * iov-overlay: what a guest sees of configuration space, changed
 *
 * An object that is given a function, and rules: reads give what these say of
 * the bytes that they touch, writes reach the function where none keeps them.
 *
 * Copyright (c) 2026 The iov-harness authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-qom.h"
#include "qemu/module.h"
#include "qom/object_interfaces.h"
#include "hw/pci/pci_device.h"
#include "hw/pci/pci_bus.h"

#define TYPE_IOV_OVERLAY "iov-overlay"
OBJECT_DECLARE_SIMPLE_TYPE(IovOverlay, IOV_OVERLAY)

#define NONE UINT32_MAX

/* Accesses that the log holds: the discovery of a function makes about 200 */
#define LOG_SIZE 4096

/* A rule as it is applied; of one that says when, only place and bits count */
typedef struct Rule {
    uint32_t at, size;
    uint8_t *value, *mask;
    IovOverlayWrites writes;
    uint64_t after, times, seen;
    struct Rule *when;
} Rule;

struct IovOverlay {
    Object parent_obj;

    char *device;
    uint32_t vf;         /* NONE: the device itself */
    uint32_t routing_id; /* at which it answers; NONE: its own */
    IovOverlayRuleList *declared;
    GPtrArray *rules;

    DeviceListener listener;
    PCIDevice *function; /* NULL while it is not there */
    PCIConfigReadFunc *read;
    PCIConfigWriteFunc *write;
    uint64_t accesses;
    IovOverlayAccess log[LOG_SIZE];
};

OBJECT_DEFINE_SIMPLE_TYPE_WITH_INTERFACES(IovOverlay, iov_overlay, IOV_OVERLAY,
                                          OBJECT, { TYPE_USER_CREATABLE }, { })

/* The overlay of each function that has one */
static GHashTable *overlays;

static void rule_free(gpointer data)
{
    Rule *rule = data;

    if (rule->when) {
        rule_free(rule->when);
    }
    g_free(rule->value);
    g_free(rule->mask);
    g_free(rule);
}

static void copy(uint8_t *bytes, size_t size, uint8List *list)
{
    for (size_t i = 0; i < size && list; i++, list = list->next) {
        bytes[i] = list->value;
    }
}

/* A rule for the bytes from `at` on; NULL for one that can not be */
static Rule *rule_new(size_t at, uint8List *value, uint8List *mask,
                      Error **errp)
{
    size_t size = QAPI_LIST_LENGTH(value);
    Rule *rule;

    if (!size || at + size > PCIE_CONFIG_SPACE_SIZE) {
        error_setg(errp, "a rule of %zu bytes at 0x%zx: it needs a value, and "
                   "must end at 0x%x", size, at, PCIE_CONFIG_SPACE_SIZE);
        return NULL;
    }
    rule = g_new0(Rule, 1);
    rule->at = at;
    rule->size = size;
    rule->value = g_malloc(size);
    rule->mask = g_malloc(size);
    copy(rule->value, size, value);
    memset(rule->mask, 0xff, size);
    copy(rule->mask, size, mask);
    return rule;
}

static bool touches(const Rule *rule, uint32_t addr, uint32_t len)
{
    return addr < rule->at + rule->size && rule->at < addr + len;
}

/* `len` bytes of the function itself; all ones beyond its space */
static uint32_t own(IovOverlay *o, uint32_t at, int len)
{
    return at + len > pci_config_size(o->function) ? UINT32_MAX
           : o->read(o->function, at, len);
}

static void add_header(IovOverlay *o, uint32_t at, uint32_t header)
{
    uint8List bytes[4] = {};

    for (int i = 0; i < 4; i++) {
        bytes[i].value = header >> 8 * i;
        bytes[i].next = i < 3 ? &bytes[i + 1] : NULL;
    }
    g_ptr_array_add(o->rules, rule_new(at, bytes, NULL, &error_abort));
}

/*
 * Put a capability into the chain behind its first header, `*head`, and into
 * space below `*free`; or to where the first one belongs, if there is none.
 */
static bool add_capability(IovOverlay *o, const IovOverlayRule *as,
                           uint32_t *head, uint32_t *free, Error **errp)
{
    uint32_t header = as->capability->id | as->capability->version << 16;
    size_t size = QAPI_LIST_LENGTH(as->value);
    uint32_t top = (*free - MIN(4 + size, *free)) & ~3u;
    uint32_t at = as->has_at ? as->at : *head ? top : PCI_CONFIG_SPACE_SIZE;
    Rule *body = rule_new(at + 4, as->value, as->mask, errp);
    bool taken = at % 4 || at < PCI_CONFIG_SPACE_SIZE;

    if (!body) {
        return false;
    }
    for (unsigned r = 0; r < o->rules->len; r++) {
        taken |= touches(g_ptr_array_index(o->rules, r), at, 4 + size);
    }
    g_ptr_array_add(o->rules, body);
    for (uint32_t i = at; !taken && i < at + 4 + size; i += 4) {
        taken = own(o, i, 4);
    }
    if (taken || as->capability->version > 15 || as->has_writes ||
        as->has_after || as->has_times || as->when) {
        error_setg(errp, "capability 0x%x at 0x%x: device '%s' has no room "
                   "there, or it has more than a value and a mask",
                   as->capability->id, at, o->device);
        return false;
    }
    add_header(o, at, header | (*head & PCI_EXT_CAP_NEXT_MASK));
    if (*head) {
        header = (*head & ~PCI_EXT_CAP_NEXT_MASK) | at << 20;
        add_header(o, PCI_CONFIG_SPACE_SIZE, header);
    }
    *head = header;
    *free = as->has_at ? *free : at;
    return true;
}

static bool add_rule(IovOverlay *o, const IovOverlayRule *as, Error **errp)
{
    Rule *rule = rule_new(as->has_at ? as->at : PCIE_CONFIG_SPACE_SIZE,
                          as->value, as->mask, errp);

    if (!rule) {
        return false;
    }
    g_ptr_array_add(o->rules, rule);
    rule->writes = as->has_writes ? as->writes : IOV_OVERLAY_WRITES_DROP;
    rule->after = as->after;
    rule->times = as->times;
    if (as->when) {
        rule->when = rule_new(as->when->at, as->when->value, as->when->mask,
                              errp);
    }
    return !as->when || rule->when;
}

/* Have the rules be those declared; those before stay where they can not be */
static bool renew(IovOverlay *o, IovOverlayRuleList *declared, Error **errp)
{
    GPtrArray *before = o->rules;
    uint32_t free = PCIE_CONFIG_SPACE_SIZE;
    uint32_t head = o->function ? own(o, PCI_CONFIG_SPACE_SIZE, 4) : 0;
    bool sound = true;

    o->rules = g_ptr_array_new_with_free_func(rule_free);
    for (; sound && declared; declared = declared->next) {
        if (!declared->value->capability) {
            sound = add_rule(o, declared->value, errp);
        } else if (o->function) { /* else there is no chain to link it into */
            sound = add_capability(o, declared->value, &head, &free, errp);
        }
    }
    if (!sound) {
        g_ptr_array_unref(o->rules);
        o->rules = g_ptr_array_ref(before);
    }
    g_ptr_array_unref(before);
    return sound;
}

/* Whether a rule is in force for an access, which then counts */
static bool takes(IovOverlay *o, Rule *rule, uint32_t addr, int len)
{
    const Rule *when = rule->when;

    if (!touches(rule, addr, len)) {
        return false;
    }
    for (uint32_t i = 0; when && i < when->size; i++) {
        if ((own(o, when->at + i, 1) ^ when->value[i]) & when->mask[i]) {
            return false;
        }
    }
    rule->seen++;
    return rule->seen > rule->after &&
           (!rule->times || rule->seen - rule->after <= rule->times);
}

static void note(IovOverlay *o, bool write, uint32_t at, uint32_t val, int len)
{
    IovOverlayAccess access = { write, at, len, val };

    o->log[o->accesses++ % LOG_SIZE] = access;
}

static uint32_t overlay_read(PCIDevice *dev, uint32_t addr, int len)
{
    IovOverlay *o = g_hash_table_lookup(overlays, dev);
    uint32_t val = o->read(dev, addr, len);

    for (unsigned r = 0; r < o->rules->len; r++) {
        Rule *rule = g_ptr_array_index(o->rules, r);
        bool in_force = takes(o, rule, addr, len);

        for (int i = 0; in_force && i < len; i++) {
            uint32_t place = addr + i - rule->at; /* wraps before its start */

            if (place < rule->size) {
                uint32_t mask = (uint32_t)rule->mask[place] << 8 * i;

                val &= ~mask;
                val |= (uint32_t)rule->value[place] << 8 * i & mask;
            }
        }
    }
    note(o, false, addr, val, len);
    return val;
}

static void overlay_write(PCIDevice *dev, uint32_t addr, uint32_t val, int len)
{
    IovOverlay *o = g_hash_table_lookup(overlays, dev);
    uint8_t decided[4] = {}, shielded[4] = {};

    note(o, true, addr, val, len);
    for (unsigned r = o->rules->len; r-- > 0;) { /* the last one counts */
        Rule *rule = g_ptr_array_index(o->rules, r);
        bool in_force = takes(o, rule, addr, len);

        for (int i = 0; in_force && i < len; i++) {
            uint32_t place = addr + i - rule->at;
            uint8_t mask = place < rule->size ? rule->mask[place] : 0;

            mask &= ~decided[i];
            decided[i] |= mask;
            shielded[i] |= rule->writes == IOV_OVERLAY_WRITES_PASS ? 0 : mask;
            if (mask && rule->writes == IOV_OVERLAY_WRITES_KEEP) {
                rule->value[place] &= ~mask;
                rule->value[place] |= val >> 8 * i & mask;
            }
        }
    }
    if (!ldl_he_p(shielded)) {
        o->write(dev, addr, val, len);
        return;
    }
    for (int i = 0; i < len; i++) { /* what is shielded is written as it is */
        uint8_t stays = shielded[i] & ~dev->w1cmask[addr + i]; /* or as 0 */

        if (shielded[i] != 0xff) {
            o->write(dev, addr + i, (own(o, addr + i, 1) & stays) |
                     (val >> 8 * i & ~shielded[i] & 0xff), 1);
        }
    }
}

/* The bus that all accesses begin at: that of pxb is below it */
static PCIBus *outermost(PCIDevice *function)
{
    PCIBus *bus = pci_get_bus(function);

    while (bus->parent_dev) {
        bus = pci_get_bus(bus->parent_dev);
    }
    return bus;
}

/* Who answers at an address below a root bus: called by pci_find_device() */
static PCIDevice *find_moved(PCIBus *root, int bus_num, uint8_t devfn,
                             PCIDevice *found)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, overlays);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        IovOverlay *o = value;

        if (o->routing_id == NONE || outermost(o->function) != root) {
            continue;
        }
        if (o->routing_id == PCI_BUILD_BDF(bus_num, devfn)) {
            return o->function;
        }
        found = o->function == found ? NULL : found;
    }
    return found;
}

static PCIDevice *find_function(IovOverlay *o)
{
    PCIDevice *device = NULL;
    uint8_t *cap;

    if (pci_qdev_find_device(o->device, &device) != 0 || o->vf == NONE) {
        return device;
    }
    cap = device->config + device->exp.sriov_cap;
    return device->exp.sriov_cap && device->exp.sriov_pf.vf &&
           o->vf < pci_get_word(cap + PCI_SRIOV_TOTAL_VF)
           ? device->exp.sriov_pf.vf[o->vf] : NULL;
}

static void attach(IovOverlay *o, Error **errp)
{
    PCIDevice *function = find_function(o);

    if (!function) { /* it may come yet */
        return;
    }
    if (g_hash_table_contains(overlays, function)) {
        error_setg(errp, "device '%s' has an iov-overlay already", o->device);
        return;
    }
    o->function = function;
    o->read = function->config_read;
    o->write = function->config_write;
    if (!renew(o, o->declared, errp)) {
        o->function = NULL;
        return;
    }
    function->config_read = overlay_read;
    function->config_write = overlay_write;
    g_hash_table_insert(overlays, object_ref(OBJECT(function)), o);
}

static void detach(IovOverlay *o)
{
    if (o->function) {
        o->function->config_read = o->read;
        o->function->config_write = o->write;
        g_hash_table_remove(overlays, o->function);
        object_unref(OBJECT(o->function));
        o->function = NULL;
    }
}

static void on_realize(DeviceListener *listener, DeviceState *dev)
{
    IovOverlay *o = container_of(listener, IovOverlay, listener);
    Error *err = NULL;

    if (!o->function && g_strcmp0(dev->id, o->device) == 0) {
        attach(o, &err);
        if (err) {
            warn_report_err(err);
        }
    }
}

static void on_unrealize(DeviceListener *listener, DeviceState *dev)
{
    IovOverlay *o = container_of(listener, IovOverlay, listener);

    if (o->function && DEVICE(o->function) == dev) {
        detach(o);
    }
}

static void overlay_complete(UserCreatable *uc, Error **errp)
{
    ERRP_GUARD();
    IovOverlay *o = IOV_OVERLAY(uc);

    attach(o, errp);
    if (!*errp) {
        o->listener.realize = on_realize;
        o->listener.unrealize = on_unrealize;
        device_listener_register(&o->listener);
    }
}

static void set_device(Object *obj, const char *value, Error **errp)
{
    g_free(IOV_OVERLAY(obj)->device);
    IOV_OVERLAY(obj)->device = g_strdup(value);
}

static void set_rules(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    IovOverlay *o = IOV_OVERLAY(obj);
    IovOverlayRuleList *wanted = NULL, *before = o->declared;

    if (visit_type_IovOverlayRuleList(v, name, &wanted, errp) &&
        renew(o, wanted, errp)) {
        o->declared = wanted;
        wanted = before;
    }
    qapi_free_IovOverlayRuleList(wanted);
}

/* The function's own bytes; none while it is not there */
static void get_config(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    IovOverlay *o = IOV_OVERLAY(obj);
    uint8List *bytes = NULL, **tail = &bytes;

    for (int i = 0; o->function && i < pci_config_size(o->function); i++) {
        QAPI_LIST_APPEND(tail, own(o, i, 1));
    }
    visit_type_uint8List(v, name, &bytes, errp);
    qapi_free_uint8List(bytes);
}

static void get_log(Object *obj, Visitor *v, const char *name, void *opaque,
                    Error **errp)
{
    IovOverlay *o = IOV_OVERLAY(obj);
    IovOverlayLog *log = g_new0(IovOverlayLog, 1);
    IovOverlayAccessList **tail = &log->accesses;
    uint64_t i = o->accesses - MIN(o->accesses, LOG_SIZE);

    log->count = o->accesses;
    for (; i < o->accesses; i++) {
        QAPI_LIST_APPEND(tail, g_memdup2(&o->log[i % LOG_SIZE],
                                         sizeof(IovOverlayAccess)));
    }
    visit_type_IovOverlayLog(v, name, &log, errp);
    qapi_free_IovOverlayLog(log);
}

static void iov_overlay_init(Object *obj)
{
    IovOverlay *o = IOV_OVERLAY(obj);

    o->vf = NONE;
    o->routing_id = NONE;
    o->rules = g_ptr_array_new_with_free_func(rule_free);
    object_property_add_uint32_ptr(obj, "vf", &o->vf, OBJ_PROP_FLAG_READWRITE);
    object_property_add_uint32_ptr(obj, "routing-id", &o->routing_id,
                                   OBJ_PROP_FLAG_READWRITE);
}

static void iov_overlay_finalize(Object *obj)
{
    IovOverlay *o = IOV_OVERLAY(obj);

    if (o->listener.realize) {
        device_listener_unregister(&o->listener);
    }
    detach(o);
    g_ptr_array_unref(o->rules);
    qapi_free_IovOverlayRuleList(o->declared);
    g_free(o->device);
}

static void iov_overlay_class_init(ObjectClass *class, const void *data)
{
    USER_CREATABLE_CLASS(class)->complete = overlay_complete;
    overlays = g_hash_table_new(NULL, NULL);
    pci_find_device_hook = find_moved;

    object_class_property_add_str(class, "device", NULL, set_device);
    object_class_property_add(class, "rules", "IovOverlayRuleList", NULL,
                              set_rules, NULL, NULL);
    object_class_property_add(class, "config", "uint8List", get_config, NULL,
                              NULL, NULL);
    object_class_property_add(class, "log", "IovOverlayLog", get_log, NULL,
                              NULL, NULL);
}
