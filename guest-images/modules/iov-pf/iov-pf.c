// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A driver for any function that is handed over to it by driver_override, whose callbacks answer as a test wants: what
 * the PCI core does with each answer is what the test is about.
 */

#include <linux/module.h>
#include <linux/pci.h>

static char *answer = "simple";
module_param(answer, charp, 0444);
MODULE_PARM_DESC(answer, "of sriov_configure: simple, fewer (one VF less than asked for), twice, anew (enables one where all are to go), or refuse");

static int refusal = -ENOSPC;
module_param(refusal, int, 0444);
MODULE_PARM_DESC(refusal, "the error with which refuse refuses");

static ushort totalvfs;
module_param(totalvfs, ushort, 0444);
MODULE_PARM_DESC(totalvfs, "what a probe lowers TotalVFs to (0: leaves it)");

static int taken = -1;
module_param(taken, int, 0444);
MODULE_PARM_DESC(taken, "of which VF the PF's link is there already, so that this VF cannot be added");

static int probed;
module_param(probed, int, 0444);
MODULE_PARM_DESC(probed, "what pci_sriov_configure_simple() and pci_sriov_set_totalvfs() said to the last probe");

static int enabled;
module_param(enabled, int, 0444);
MODULE_PARM_DESC(enabled, "what pci_enable_sriov() said to the last probe of a function without VFs");

static int counted = -1;
module_param(counted, int, 0444);
MODULE_PARM_DESC(counted, "how many VFs, assigned or not, a function without any was last said to have");

static int msix_of_vf = -1;
module_param(msix_of_vf, int, 0444);
MODULE_PARM_DESC(msix_of_vf, "how many MSI-X vectors a VF was last given");

static int iov_pf_configure(struct pci_dev *pdev, int count)
{
	if (!strcmp(answer, "refuse"))
		return refusal;
	if (!strcmp(answer, "fewer"))
		return pci_sriov_configure_simple(pdev, count > 1 ? count - 1 : count);
	if (!strcmp(answer, "anew"))
		return pci_sriov_configure_simple(pdev, count ? count : 1);
	if (!strcmp(answer, "twice") && count) {
		int error = pci_enable_sriov(pdev, count);

		return error ? error : pci_enable_sriov(pdev, count);
	}
	return pci_sriov_configure_simple(pdev, count);
}

static u32 iov_pf_total_msix(struct pci_dev *pdev)
{
	return 64;
}

static int iov_pf_set_msix(struct pci_dev *vf, int count)
{
	msix_of_vf = count;
	return 0;
}

static int iov_pf_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	char name[16];

	if (totalvfs) {
		probed = pci_sriov_set_totalvfs(pdev, totalvfs);
	} else if (!pci_sriov_get_totalvfs(pdev)) {
		probed = pci_sriov_configure_simple(pdev, 1);
		enabled = pci_enable_sriov(pdev, 1);
		pci_disable_sriov(pdev);
		counted = pci_num_vf(pdev) + pci_vfs_assigned(pdev);
	}
	if (taken < 0)
		return 0;
	snprintf(name, sizeof(name), "virtfn%d", taken);
	return sysfs_create_link(&pdev->dev.kobj, &pdev->dev.kobj, name);
}

static void iov_pf_remove(struct pci_dev *pdev)
{
	char name[16];

	if (taken < 0)
		return;
	snprintf(name, sizeof(name), "virtfn%d", taken);
	sysfs_remove_link(&pdev->dev.kobj, name);
}

/* No IDs: it gets what is handed over to it, and nothing else. */
static struct pci_driver iov_pf = {
	.name = "iov-pf",
	.probe = iov_pf_probe,
	.remove = iov_pf_remove,
	.sriov_configure = iov_pf_configure,
	.sriov_get_vf_total_msix = iov_pf_total_msix,
	.sriov_set_msix_vec_count = iov_pf_set_msix,
};

static int __init iov_pf_init(void)
{
	static const char *const known[] = { "simple", "fewer", "twice", "anew", "refuse" };

	if (match_string(known, ARRAY_SIZE(known), answer) < 0)
		return -EINVAL;
	return pci_register_driver(&iov_pf);
}
module_init(iov_pf_init);

static void __exit iov_pf_exit(void)
{
	pci_unregister_driver(&iov_pf);
}
module_exit(iov_pf_exit);

MODULE_DESCRIPTION("A PF driver that answers as a test wants");
MODULE_LICENSE("GPL");
