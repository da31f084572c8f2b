// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Marks one PCI function as assigned to a guest, from load to unload. Of the kernel's own drivers only xen-pciback does
 * that, which needs Xen: vfio-pci does not.
 */

#include <linux/module.h>
#include <linux/pci.h>

static char *function;
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "address of the function, such as 0000:01:10.0");

static struct pci_dev *assigned;

static int __init iov_assign_init(void)
{
	struct device *found = function ? bus_find_device_by_name(&pci_bus_type, NULL, function) : NULL;

	if (!found)
		return -ENODEV;
	assigned = to_pci_dev(found);
	pci_set_dev_assigned(assigned);
	return 0;
}

static void __exit iov_assign_exit(void)
{
	pci_clear_dev_assigned(assigned);
	pci_dev_put(assigned);
}

module_init(iov_assign_init);
module_exit(iov_assign_exit);

MODULE_DESCRIPTION("Marks one PCI function as assigned to a guest");
MODULE_LICENSE("GPL");
